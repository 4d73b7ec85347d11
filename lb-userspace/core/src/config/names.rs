//! Validates names and paths.

use std::path::PathBuf;

use super::diagnostics::Message;

/// The rule for one kind of name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// What is named.
    what: &'static str,
    /// Largest length in bytes.
    longest: usize,
    /// Allowed characters besides ASCII letters and digits.
    marks: &'static str,
}

/// Name of a node. It is part of paths.
pub(super) const NODE: Rule = Rule {
    what: "node",
    longest: 32,
    marks: "-_",
};

/// Name of a service.
pub(super) const SERVICE: Rule = Rule {
    what: "service",
    longest: 64,
    marks: "-_.",
};

/// Name of a virtual router.
pub(super) const ROUTER: Rule = Rule {
    what: "virtual router",
    ..SERVICE
};

/// Name of a sync group of virtual routers.
pub(super) const GROUP: Rule = Rule {
    what: "group",
    ..SERVICE
};

/// Name of a backend. Allows the default name, `address:port`.
pub(super) const BACKEND: Rule = Rule {
    what: "backend",
    longest: 64,
    marks: "-_.:[]",
};

/// Longest name of an interface in the kernel, in bytes.
const LONGEST_INTERFACE: usize = 15;

/// Longest path of a Unix socket, in bytes.
const LONGEST_SOCKET: usize = 107;

impl Rule {
    /// The expected form of the name.
    pub(super) fn expected(self) -> String {
        let marks = self.marks.chars().map(String::from).collect::<Vec<_>>().join(" ");
        format!("1 to {} ASCII letters, digits and any of {marks}", self.longest)
    }

    /// Validates a name.
    pub(super) fn check(self, name: &str) -> Result<String, Message> {
        let wrong = name
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !self.marks.contains(*c));
        let message = match wrong {
            _ if name.is_empty() => format!("the name of the {} is empty", self.what),
            Some(c) => format!(
                "the name of the {} contains the character '{}'",
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

/// Validates the name of a network interface by the rules of the kernel.
pub(super) fn interface(name: &str) -> Result<String, Message> {
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > LONGEST_INTERFACE || name == "." || name == ".." || name.contains(wrong) {
        return Err(Message::new(
            format!("\"{}\" is not a valid interface name", name.escape_debug()),
            format!("1 to {LONGEST_INTERFACE} bytes without `/`, `:` and blanks, as `ip link` shows it"),
        ));
    }
    Ok(name.to_owned())
}

/// Validates an absolute path.
pub(super) fn absolute(path: &str) -> Result<PathBuf, Message> {
    if path.contains('\0') {
        return Err(Message::new("the path contains a NUL character", "an absolute path"));
    }
    if !path.starts_with('/') {
        let problem = format!("\"{}\" is not an absolute path", path.escape_debug());
        return Err(Message::new(problem, "a path that begins with `/`"));
    }
    Ok(PathBuf::from(path))
}

/// Validates the path of a Unix socket.
pub(super) fn socket(path: &str) -> Result<PathBuf, Message> {
    if path.len() > LONGEST_SOCKET {
        return Err(Message::new(
            format!("the path of the socket has {} bytes", path.len()),
            format!("at most {LONGEST_SOCKET} bytes (limit of the kernel)"),
        ));
    }
    absolute(path)
}
