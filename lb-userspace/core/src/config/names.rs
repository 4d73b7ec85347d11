//! Names and paths.

use std::path::PathBuf;

use super::diagnostics::Message;

/// A kind of name: what is named, the longest it may be, and what it may hold besides letters and digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    what: &'static str,
    longest: usize,
    marks: &'static str,
}

/// The name of the node: part of paths.
pub(super) const NODE: Rule = Rule {
    what: "node",
    longest: 32,
    marks: "-_",
};

/// The name of a service.
pub(super) const SERVICE: Rule = Rule {
    what: "service",
    longest: 64,
    marks: "-_.",
};

/// The name of a virtual router.
pub(super) const ROUTER: Rule = Rule {
    what: "virtual router",
    ..SERVICE
};

/// The name of a group of virtual routers.
pub(super) const GROUP: Rule = Rule {
    what: "group",
    ..SERVICE
};

/// The name of a backend: besides what a service's may be, the `address:port` that it has by default.
pub(super) const BACKEND: Rule = Rule {
    what: "backend",
    longest: 64,
    marks: "-_.:[]",
};

/// The longest name that the kernel gives an interface, in bytes.
const LONGEST_INTERFACE: usize = 15;

/// The longest path of a Unix socket, in bytes.
const LONGEST_SOCKET: usize = 107;

impl Rule {
    /// What such a name looks like.
    pub(super) fn expected(self) -> String {
        let marks = self.marks.chars().map(String::from).collect::<Vec<_>>().join(" ");
        format!("1 to {} ASCII letters, digits and any of {marks}", self.longest)
    }

    /// Checks a name.
    pub(super) fn check(self, name: &str) -> Result<String, Message> {
        let wrong = name
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !self.marks.contains(*c));
        let message = match wrong {
            _ if name.is_empty() => format!("the name of the {} is empty", self.what),
            Some(c) => format!(
                "the name of the {} has the character '{}' in it",
                self.what,
                c.escape_debug()
            ),
            None if name.len() > self.longest => {
                format!("the name of the {} has {} characters", self.what, name.len())
            }
            None => return Ok(name.to_owned()),
        };
        Err(Message::new(message, self.expected()))
    }
}

/// The name of a network interface, by the kernel's rule.
pub(super) fn interface(name: &str) -> Result<String, Message> {
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > LONGEST_INTERFACE || name == "." || name == ".." || name.contains(wrong) {
        return Err(Message::new(
            format!("\"{}\" cannot be the name of an interface", name.escape_debug()),
            format!("1 to {LONGEST_INTERFACE} bytes without `/`, `:` and blanks, as `ip link` shows it"),
        ));
    }
    Ok(name.to_owned())
}

/// An absolute path.
pub(super) fn absolute(path: &str) -> Result<PathBuf, Message> {
    if path.contains('\0') {
        return Err(Message::new("the path has a NUL character in it", "an absolute path"));
    }
    if !path.starts_with('/') {
        let problem = format!("\"{}\" is not an absolute path", path.escape_debug());
        return Err(Message::new(problem, "a path that begins with `/`"));
    }
    Ok(PathBuf::from(path))
}

/// The path of a Unix socket.
pub(super) fn socket(path: &str) -> Result<PathBuf, Message> {
    if path.len() > LONGEST_SOCKET {
        return Err(Message::new(
            format!("the path of the socket has {} bytes", path.len()),
            format!("at most {LONGEST_SOCKET} bytes, which is all that the kernel takes"),
        ));
    }
    absolute(path)
}
