//! Unpacking an archive that nobody has looked at.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

/// What an archive may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes when unpacked.
    pub bytes: u64,
    /// Most files, directories and links.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 200_000 }
    }
}

/// Unpacks a `.tar.gz` into a directory, which must be new. After an error it may hold a part.
///
/// # Errors
/// A sentence: it cannot be read, something in it would land or point outside the directory or is neither file, directory
/// nor link, or it is larger than the limits.
pub fn unpack(archive: &Path, into: &Path, limits: Limits) -> Result<(), String> {
    let file = File::open(archive).map_err(|e| format!("cannot open it: {e}"))?;
    fs::create_dir_all(into).map_err(|e| format!("cannot create {}: {e}", into.display()))?;
    let root = into.canonicalize().map_err(|e| format!("cannot read {}: {e}", into.display()))?;
    // Headers and padding count too: nothing is read beyond this, whatever the headers claim.
    let unzipped = GzDecoder::new(file).take(limits.bytes.saturating_add(limits.entries.saturating_mul(2_048)));
    let mut archive = Archive::new(unzipped);
    archive.set_overwrite(true);
    archive.set_preserve_permissions(true);
    archive.set_unpack_xattrs(false);
    let (mut bytes, mut count, mut links) = (0_u64, 0_u64, Vec::new());
    for entry in archive.entries().map_err(|e| format!("it is no tar archive: {e}"))? {
        let mut entry = entry.map_err(|e| format!("it is no .tar.gz archive, or is damaged: {e}"))?;
        let path = entry.path().map_err(|e| format!("it has a name that cannot be read: {e}"))?.into_owned();
        let shown = path.display();
        count += 1;
        bytes = bytes.saturating_add(entry.size());
        if count > limits.entries {
            return Err(format!("it has more than {} entries", limits.entries));
        }
        if bytes > limits.bytes {
            return Err(format!("it takes more than {} bytes when unpacked", limits.bytes));
        }
        if !is_inside(&path) {
            return Err(format!("`{shown}` would land outside the release"));
        }
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse | EntryType::Directory => {}
            EntryType::XGlobalHeader => continue,
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name().ok().flatten().ok_or_else(|| format!("`{shown}` links to nothing"))?;
                let from =
                    if kind == EntryType::Symlink { path.parent().unwrap_or(Path::new("")) } else { Path::new("") };
                if !stays_inside(from, &target) {
                    return Err(format!("`{shown}` links to {}, outside the release", target.display()));
                }
                links.push(path.clone());
            }
            kind => return Err(format!("`{shown}` is a {kind:?}: only files, directories and links are unpacked")),
        }
        match entry.unpack_in(&root) {
            Ok(true) => {}
            Ok(false) => return Err(format!("`{shown}` would land outside the release")),
            Err(error) => return Err(format!("`{shown}` cannot be unpacked: {error}")),
        }
    }
    if count == 0 {
        return Err("it is empty".into());
    }
    // A link through another link can lead further than its text says.
    for link in links {
        let target = root.join(&link).canonicalize();
        if target.is_ok_and(|target| !target.starts_with(&root)) {
            return Err(format!("`{}` links outside the release", link.display()));
        }
    }
    Ok(())
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Whether a link in directory `from` to `target` ends inside, by its text.
fn stays_inside(from: &Path, target: &Path) -> bool {
    let mut depth = from.components().filter(|part| matches!(part, Component::Normal(_))).count();
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// The name of one file in a directory, made of any text; different texts can have the same.
pub(crate) fn file_name(text: &str) -> PathBuf {
    let safe: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+') { c } else { '_' })
        .collect();
    if safe.is_empty() || safe.chars().all(|c| c == '.') {
        PathBuf::from(format!("_{safe}"))
    } else {
        PathBuf::from(safe)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::*;

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o755);
        header
    }

    /// An archive with one entry under a name that the builder itself would refuse.
    fn raw(name: &str, kind: EntryType, link: &str, content: &[u8]) -> Vec<u8> {
        let mut header = header(kind, content.len() as u64);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, content).unwrap();
        zip(&builder.into_inner().unwrap())
    }

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn try_unpack(archive: &[u8], limits: Limits) -> Result<tempfile::TempDir, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar.gz");
        fs::write(&path, archive).unwrap();
        unpack(&path, &directory.path().join("out"), limits).map(|()| directory)
    }

    #[test]
    fn files_and_links_inside_are_unpacked() {
        let mut builder = Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Regular, 2), "bin/app", &b"hi"[..]).unwrap();
        builder.append_link(&mut header(EntryType::Symlink, 0), "lib/app", "../bin/app").unwrap();
        let directory = try_unpack(&zip(&builder.into_inner().unwrap()), Limits::default()).unwrap();
        assert_eq!(fs::read(directory.path().join("out/lib/app")).unwrap(), b"hi");
    }

    #[test]
    fn whatever_would_leave_the_directory_is_refused() {
        let cases = [
            raw("../evil", EntryType::Regular, "", b"x"),
            raw("/etc/evil", EntryType::Regular, "", b"x"),
            raw("a/../../evil", EntryType::Regular, "", b"x"),
            raw("link", EntryType::Symlink, "/etc/passwd", b""),
            raw("a/link", EntryType::Symlink, "../../x", b""),
            raw("hard", EntryType::Link, "../../x", b""),
            raw("device", EntryType::Char, "", b""),
            raw("pipe", EntryType::Fifo, "", b""),
        ];
        for (number, archive) in cases.into_iter().enumerate() {
            assert!(try_unpack(&archive, Limits::default()).is_err(), "case {number}");
        }
    }

    #[test]
    fn a_link_through_a_link_cannot_leave_either() {
        let mut builder = Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Regular, 1), "a/b/c/x", &b"x"[..]).unwrap();
        builder.append_link(&mut header(EntryType::Symlink, 0), "a/b/c/up", "../../..").unwrap();
        builder.append_link(&mut header(EntryType::Symlink, 0), "out", "a/b/c/up/..").unwrap();
        let error = try_unpack(&zip(&builder.into_inner().unwrap()), Limits::default()).unwrap_err();
        assert!(error.contains("outside"), "{error}");
    }

    #[test]
    fn a_bomb_is_refused_before_it_fills_the_disk() {
        let zeros = vec![0; 1 << 20];
        let archive = raw("zeros", EntryType::Regular, "", &zeros);
        let error = try_unpack(&archive, Limits { bytes: 1 << 16, entries: 10 }).unwrap_err();
        assert!(error.contains("65536 bytes"), "{error}");
        let mut builder = Builder::new(Vec::new());
        for number in 0..20 {
            builder.append_data(&mut header(EntryType::Regular, 0), format!("f{number}"), &b""[..]).unwrap();
        }
        let error =
            try_unpack(&zip(&builder.into_inner().unwrap()), Limits { bytes: 1 << 16, entries: 10 }).unwrap_err();
        assert!(error.contains("10 entries"), "{error}");
    }

    #[test]
    fn something_else_than_an_archive_is_an_error() {
        assert!(try_unpack(b"not an archive", Limits::default()).is_err());
        assert!(try_unpack(&zip(b""), Limits::default()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_inside_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.tar.gz");
            fs::write(&path, zip(&bytes)).unwrap();
            let _ = unpack(&path, &directory.path().join("out"), Limits { bytes: 1 << 16, entries: 10 });
            prop_assert!(fs::read_dir(directory.path()).unwrap().count() <= 2);
        }

        #[test]
        fn any_version_makes_a_file_name(text in ".*") {
            let name = file_name(&text);
            prop_assert_eq!(name.components().count(), 1);
            prop_assert!(matches!(name.components().next(), Some(Component::Normal(_))));
        }
    }
}
