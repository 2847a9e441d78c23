//! Getting an artifact onto this machine, checked.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt as _;
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// Most bytes of an artifact.
const LARGEST: u64 = 4 << 30;
/// How long a download may stand still.
const STALLED: Duration = Duration::from_secs(30);

/// Fetches artifacts and keeps them by digest. Several executors may share a directory.
#[derive(Debug, Clone)]
pub struct ArtifactCache {
    directory: PathBuf,
    http: reqwest::Client,
}

/// An artifact on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The archive.
    pub path: PathBuf,
    /// SHA-256 in hexadecimal.
    pub digest: String,
}

impl ArtifactCache {
    /// A cache in a directory, which is made when it is needed.
    pub fn new(directory: PathBuf, http: reqwest::Client) -> Self {
        Self { directory, http }
    }

    /// The artifact at a `file:` or `http(s):` URL. `expected` is `sha256:<hex>`, or empty when nobody knows it.
    ///
    /// A crash in the middle leaves a file that nobody looks at and the next fetch replaces.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Digest`], [`Error::Configuration`] for another kind of URL or digest, [`Error::Host`].
    pub async fn fetch(&self, url: &str, expected: &str) -> Result<Artifact, Error> {
        let expected_hex = parse_digest(expected)?;
        if let Some(digest) = &expected_hex {
            let path = self.path_of(digest);
            if path.exists() {
                return Ok(Artifact { path, digest: digest.clone() });
            }
        }
        fs::create_dir_all(&self.directory)
            .map_err(|e| Error::host(format!("create {}", self.directory.display()), e))?;
        let mut incoming = tempfile::Builder::new()
            .prefix(".incoming-")
            .tempfile_in(&self.directory)
            .map_err(|e| Error::host(format!("create a file in {}", self.directory.display()), e))?;
        let found = match url.split_once(':') {
            Some(("file", path)) => copy_file(url, path, incoming.as_file_mut())?,
            Some(("http" | "https", _)) => self.download(url, incoming.as_file_mut()).await?,
            _ => {
                return Err(Error::configuration(format!(
                    "artifact `{}` is neither a `file:` nor an `http(s):` URL",
                    without_user(url)
                )));
            }
        };
        if expected_hex.as_ref().is_some_and(|digest| *digest != found) {
            return Err(Error::Digest { url: without_user(url), expected: expected.into(), found });
        }
        let path = self.path_of(&found);
        let kept = incoming.as_file().sync_all().and_then(|()| incoming.persist(&path).map_err(|e| e.error));
        kept.map_err(|e| Error::host(format!("keep {}", path.display()), e))?;
        Ok(Artifact { path, digest: found })
    }

    fn path_of(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{digest}.tar.gz"))
    }

    async fn download(&self, url: &str, into: &mut File) -> Result<String, Error> {
        let unreachable = |reason: String| Error::Unreachable { url: without_user(url), reason };
        let response = self.http.get(url).send().await.map_err(|e| unreachable(causes(&e.without_url())))?;
        if !response.status().is_success() {
            return Err(unreachable(format!("the server answered {}", response.status())));
        }
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut body = response.bytes_stream();
        loop {
            let chunk = tokio::time::timeout(STALLED, body.next())
                .await
                .map_err(|_| unreachable(format!("nothing came for {} s", STALLED.as_secs())))?;
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(|e| unreachable(causes(&e.without_url())))?;
            size += chunk.len() as u64;
            if size > LARGEST {
                return Err(Error::Archive {
                    url: without_user(url),
                    reason: format!("it has more than {LARGEST} bytes"),
                });
            }
            hash.update(&chunk);
            into.write_all(&chunk).map_err(|e| Error::host("write the artifact", e))?;
        }
        Ok(hex::encode(hash.finalize()))
    }
}

/// Copies and hashes; nobody can change what is used afterwards.
fn copy_file(url: &str, path: &str, into: &mut File) -> Result<String, Error> {
    let unreachable = |reason: std::io::Error| Error::Unreachable { url: url.into(), reason: reason.to_string() };
    let path = Path::new(path.strip_prefix("//").unwrap_or(path));
    // Who publishes events chooses the path: a pipe or a device would never end.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(unreachable)?;
    let refused = |reason: String| Error::Archive { url: url.into(), reason };
    if !file.metadata().map_err(unreachable)?.is_file() {
        return Err(refused("it is no file".into()));
    }
    let (mut hash, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        let read = file.read(&mut buffer).map_err(unreachable)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        size += read as u64;
        if size > LARGEST {
            return Err(refused(format!("it has more than {LARGEST} bytes")));
        }
        hash.update(&buffer[..read]);
        into.write_all(&buffer[..read]).map_err(|e| Error::host("write the artifact", e))?;
    }
}

fn parse_digest(text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        .map(|hex| Some(hex.to_ascii_lowercase()))
        .ok_or_else(|| {
            Error::configuration(format!("`{text}` is no digest: expected sha256: and 64 hexadecimal digits"))
        })
}

fn without_user(url: &str) -> String {
    let Some(start) = url.find("://").map(|at| at + 3) else { return url.to_owned() };
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        Some(at) => format!("{}{}", &url[..start], &url[start + at + 1..]),
        None => url.to_owned(),
    }
}

/// An error with its causes: the outermost alone says nothing about what to do.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(directory: &Path) -> ArtifactCache {
        ArtifactCache::new(directory.join("cache"), reqwest::Client::new())
    }

    #[tokio::test]
    async fn a_file_is_kept_by_its_digest_and_found_when_the_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.tar.gz");
        fs::write(&file, "content").unwrap();
        let url = format!("file:{}", file.display());
        let cache = cache(directory.path());
        let first = cache.fetch(&url, "").await.unwrap();
        assert_eq!(fs::read(&first.path).unwrap(), b"content");
        fs::remove_file(&file).unwrap();
        assert_eq!(cache.fetch(&url, &format!("sha256:{}", first.digest)).await.unwrap(), first);
        assert!(matches!(cache.fetch(&url, "").await, Err(Error::Unreachable { .. })));
    }

    #[tokio::test]
    async fn a_file_with_another_digest_is_refused_and_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.tar.gz");
        fs::write(&file, "content").unwrap();
        let cache = cache(directory.path());
        let expected = format!("sha256:{}", "0".repeat(64));
        let result = cache.fetch(&format!("file://{}", file.display()), &expected).await;
        assert!(matches!(result, Err(Error::Digest { .. })));
        assert_eq!(fs::read_dir(directory.path().join("cache")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_device_a_pipe_or_a_directory_is_refused_instead_of_read_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe.tar.gz");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let cache = cache(directory.path());
        for path in [Path::new("/dev/zero"), &pipe, directory.path()] {
            let error = cache.fetch(&format!("file:{}", path.display()), "").await.unwrap_err();
            assert!(matches!(error, Error::Archive { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn other_urls_and_digests_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        for (url, digest) in
            [("ftp://x/y", ""), ("/tmp/x", ""), ("", ""), ("file:/x", "md5:1"), ("file:/x", "sha256:é")]
        {
            assert!(matches!(cache.fetch(url, digest).await, Err(Error::Configuration { .. })), "{url} {digest}");
        }
    }

    /// Answers one request with these bytes.
    async fn answer_once(answer: &'static str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        format!("http://me:secret@{address}/a.tar.gz")
    }

    #[tokio::test]
    async fn a_download_is_kept_only_when_it_came_in_full() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        let url = answer_once("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ncontent").await;
        let artifact = cache.fetch(&url, "").await.unwrap();
        assert_eq!(fs::read(&artifact.path).unwrap(), b"content");
        for answer in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\ncontent",
        ] {
            let error = cache.fetch(&answer_once(answer).await, "").await.unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(fs::read_dir(directory.path().join("cache")).unwrap().count(), 1);
    }

    #[test]
    fn errors_show_no_password() {
        assert_eq!(without_user("https://me:secret@host/a@b"), "https://host/a@b");
        assert_eq!(without_user("file:/a@b"), "file:/a@b");
    }
}
