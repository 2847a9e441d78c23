//! Package URLs of artifacts: the counterpart of what the trigger reads.

use packageurl::PackageUrl;

/// `pkg:oci/…` for an image, `pkg:generic/…` for what has a URL.
pub(super) fn of(service: &str, version: &str, digest: &str, location: &str) -> String {
    let is_url = location.contains("://") || location.starts_with("file:");
    let made = if is_url || location.is_empty() {
        generic(service, version, digest, location)
    } else {
        image(version, digest, location)
    };
    made.unwrap_or_else(|_| format!("pkg:generic/{service}"))
}

fn generic(service: &str, version: &str, digest: &str, location: &str) -> Result<String, packageurl::Error> {
    let mut purl = PackageUrl::new("generic", service.to_owned())?;
    purl.with_version(version.to_owned())?;
    if !digest.is_empty() {
        purl.add_qualifier("checksum", digest.to_owned())?;
    }
    if !location.is_empty() {
        purl.add_qualifier("download_url", location.to_owned())?;
    }
    Ok(purl.to_string())
}

fn image(version: &str, digest: &str, location: &str) -> Result<String, packageurl::Error> {
    let repository = location.split('@').next().unwrap_or(location);
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let mut purl = PackageUrl::new("oci", name.to_owned())?;
    if !digest.is_empty() {
        purl.with_version(digest.to_owned())?;
    }
    purl.add_qualifier("repository_url", repository.to_owned())?;
    purl.add_qualifier("tag", version.to_owned())?;
    Ok(purl.to_string())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn archives_and_images_have_package_urls() {
        assert_eq!(
            of("storefront", "v1.2.0", "sha256:ab", "https://example.com/storefront-v1.2.0.tar.gz"),
            "pkg:generic/storefront@v1.2.0?checksum=sha256:ab&download_url=https:%2F%2Fexample.com%2Fstorefront-v1.2.0.tar.gz"
        );
        assert_eq!(of("storefront", "v1.2.0", "", ""), "pkg:generic/storefront@v1.2.0");
        assert_eq!(
            of("storefront", "v1.2.0", "sha256:ab", "registry.example.com/shop/storefront@sha256:ab"),
            "pkg:oci/storefront@sha256:ab?repository_url=registry.example.com%2Fshop%2Fstorefront&tag=v1.2.0"
        );
    }
}
