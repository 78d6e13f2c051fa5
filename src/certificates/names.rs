//! Which host names a certificate is for (RFC 9525 section 6.3).

/// DNS names, in lower case, as a certificate has them. A wildcard stands for exactly one label, the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<Box<str>>);

impl Names {
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(names.map(|name| name.to_ascii_lowercase().into()).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Whether `host`, in any case, is one of them.
    pub fn cover(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.iter().any(
            |name| match (name.strip_prefix("*."), host.split_once('.')) {
                (None, _) => name.eq_ignore_ascii_case(host),
                (Some(parent), Some((label, rest))) => {
                    !label.is_empty() && parent.eq_ignore_ascii_case(rest)
                }
                (Some(_), None) => false,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn a_wildcard_is_one_label() {
        let names = Names::new(["Example.com", "*.example.com", "a.b.test"].into_iter());
        for host in ["example.com", "EXAMPLE.com.", "www.example.com", "A.b.Test"] {
            assert!(names.cover(host), "{host}");
        }
        for host in [
            "",
            ".",
            "com",
            ".example.com",
            "a.b.example.com",
            "example.com.evil.test",
            "b.test",
            "xexample.com",
            "example.comx",
        ] {
            assert!(!names.cover(host), "{host}");
        }
    }
}
