//! Values that say where something is: ports, paths, archives, sockets, and the command line that listens there.

use schemars::json_schema;

use super::scalar::{Wrong, scalar, shortened};
use crate::decode::{Decode, Reader};
use crate::diagnostic::Diagnostic;
use crate::yaml::{Node, Shape};

/// Ports, both ends included: `21000-21099`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Ports {
    fn read(text: &str) -> Result<Self, Wrong> {
        let example = "expected two ports from 1 to 65535, the lower first, for example `21000-21099`";
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err(Wrong::new(format!("`{}` is not a range of ports", shortened(text)), example)),
        }
    }

    /// How many.
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

scalar!(Ports, "ports such as `21000-21099`", {
    "type": ["string", "integer"], "pattern": "^[0-9]+-[0-9]+$", "examples": ["21000-21099"]
});

/// The name or address of a host, which is also the name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        const LONGEST: usize = 253;
        let well = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
            && text.len() <= LONGEST;
        if well {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(
            format!("`{}` is not a host", shortened(text)),
            "expected a name or an address, for example `shop-1` or `10.0.1.11`",
        ))
    }
}

scalar!(HostName, "a host", { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$" });

/// A directory. A relative one is below where the executor was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(String);

impl Directory {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        if !text.trim().is_empty() && !text.contains(char::is_control) && !text.contains("://") {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(format!("`{}` is not a directory", shortened(text)), "expected a path such as `/srv/cdflow`"))
    }
}

scalar!(Directory, "a directory", { "type": "string", "minLength": 1, "examples": ["/srv/cdflow"] });

/// A path that starts with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(pub(crate) String);

impl Path {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.starts_with('/') && !text.contains(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(
            format!("`{}` is not a path", shortened(text)),
            format!("expected it to start with `/`, for example `/{}`", shortened(text.trim_start_matches("./"))),
        ))
    }
}

scalar!(Path, "a path", { "type": "string", "pattern": "^/" });

/// An `http://` or `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(pub(crate) String);

impl HttpUrl {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let well = host.is_some_and(|host| !host.is_empty() && !host.starts_with(['/', ':']));
        if well && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Ok(Self(text.to_owned()));
        }
        Err(Wrong::new(
            format!("`{}` is not an address", shortened(text)),
            "expected `http://host:port/…` or `https://…`",
        ))
    }
}

scalar!(HttpUrl, "an address", { "type": "string", "pattern": "^https?://[^/:]", "format": "uri" });

/// Where the archive of a version is, with `{version}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveLocation(pub(crate) String);

impl ArchiveLocation {
    /// Of this version.
    pub fn of(&self, version: &str) -> String {
        self.0.replace("{version}", version)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        let example = "expected for example `https://example.com/shop-{version}.tar.gz` or `file:/srv/shop-{version}`";
        if !is_archive(text) {
            return Err(Wrong::new(format!("`{}` is not where an archive can be", shortened(text)), example));
        }
        if !text.contains("{version}") {
            return Err(Wrong::new("every version would be the same archive", format!("add `{{version}}`; {example}")));
        }
        Ok(Self(text.to_owned()))
    }
}

scalar!(ArchiveLocation, "where the archive is", {
    "type": "string", "pattern": "^(https?://|file:).*\\{version\\}", "examples": ["https://example.com/shop-{version}.tar.gz"]
});

/// Whether an archive can be fetched from there.
pub(crate) fn is_archive(location: &str) -> bool {
    let rest = ["https://", "http://", "file:"].iter().find_map(|scheme| location.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty()) && !location.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// HAProxy's admin socket: `unix:path` or `tcp://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSocket(pub(crate) String);

impl AdminSocket {
    /// As it is written, `tcp://host:port` as `tcp:host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.is_empty() && !path.contains(char::is_control) {
                return Ok(Self(format!("unix:{path}")));
            }
        } else if let Some(rest) = text.strip_prefix("tcp:") {
            let address = rest.strip_prefix("//").unwrap_or(rest);
            let well = address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
            if well && !address.contains(char::is_whitespace) {
                return Ok(Self(format!("tcp:{address}")));
            }
        }
        Err(Wrong::new(
            format!("`{}` is not an admin socket", shortened(text)),
            "expected `unix:/run/haproxy/admin.sock` or `tcp://host:port`",
        ))
    }
}

scalar!(AdminSocket, "an admin socket", { "type": "string", "pattern": "^(unix:|tcp:)" });

/// A command line that starts a service, with `{port}` and perhaps `{version}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartCommand(pub(crate) String);

impl StartCommand {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(text: &str) -> Result<Self, Wrong> {
        const KNOWN: [&str; 2] = ["port", "version"];
        for (open, _) in text.match_indices('{').filter(|(at, _)| !text[..*at].ends_with('$')) {
            let name = text[open + 1..].split('}').next().unwrap_or_default();
            let is_placeholder = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase());
            if is_placeholder && text[open + 1 + name.len()..].starts_with('}') && !KNOWN.contains(&name) {
                let near = crate::nearest(name, KNOWN).map_or_else(
                    || "expected `{port}` or `{version}`".into(),
                    |near| format!("did you mean `{{{near}}}`?"),
                );
                return Err(Wrong { offset: Some(open), ..Wrong::new(format!("`{{{name}}}` is not filled in"), near) });
            }
        }
        if !text.contains("{port}") {
            return Err(Wrong::new(
                "this command does not say on which port to listen",
                "add `{port}`: each instance gets a port of its own, for example `bin/shop --port {port}`",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

scalar!(StartCommand, "a command line", {
    "type": "string", "pattern": "\\{port\\}", "description": "`{port}` and `{version}` are filled in."
});
