//! Whether a request comes from the application's own pages, or another site made a browser send it.

use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER};

/// Whose pages may act with a browser's cookies.
#[derive(Clone, Debug)]
pub struct Origins {
    pub own: OwnOrigin,
    /// Others of the same deployment, as browsers write them: `https://www.example.com`.
    pub allowed: Vec<String>,
}

impl Origins {
    /// Another site is behind the request, or may be.
    pub fn is_cross_site(&self, headers: &HeaderMap, host: &HeaderValue) -> bool {
        self.own.is_cross_site(headers, host) && self.allowed_one(headers).is_none()
    }

    /// The one `Origin` of the request, if it is one of the others.
    pub fn allowed_one<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        if self.allowed.is_empty() {
            return None;
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|_| origins.next().is_none())?;
        self.allowed
            .iter()
            .any(|allowed| origin == allowed.as_str())
            .then_some(origin)
    }
}

/// The origin of the application as browsers see it.
#[derive(Clone, Debug)]
pub enum OwnOrigin {
    /// `https://app.example.com`, from the configuration.
    Configured(String),
    /// Not configured: whatever host the request names.
    Host,
}

impl OwnOrigin {
    /// Another site is behind the request, or may be. In the order of how much is known: `Sec-Fetch-Site` (Fetch Metadata),
    /// then `Origin` (RFC 6454), then `Referer`. A request with none of them comes from no browser of today.
    pub fn is_cross_site(&self, headers: &HeaderMap, host: &HeaderValue) -> bool {
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        if let Some(site) = sites.next() {
            return sites.next().is_some() || !matches!(site.as_bytes(), b"same-origin" | b"none");
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        if let Some(origin) = origins.next() {
            return origins.next().is_some() || !self.is_own(origin.as_bytes(), host);
        }
        headers
            .get(REFERER)
            .is_some_and(|referer| !self.is_own(origin_of(referer.as_bytes()), host))
    }

    fn is_own(&self, origin: &[u8], host: &HeaderValue) -> bool {
        match self {
            Self::Configured(own) => origin.eq_ignore_ascii_case(own.as_bytes()),
            Self::Host => [&b"http://"[..], b"https://"]
                .iter()
                .filter_map(|scheme| origin.strip_prefix(*scheme))
                .any(|authority| authority.eq_ignore_ascii_case(host.as_bytes())),
        }
    }
}

/// Asked for by the person at the browser as a page, not by a script or as a part of one.
pub fn is_navigation(headers: &HeaderMap) -> bool {
    if let Some(mode) = headers.get(SEC_FETCH_MODE) {
        return mode.as_bytes() == b"navigate";
    }
    let from_a_script = SCRIPT_HEADERS
        .iter()
        .any(|name| headers.contains_key(*name));
    !from_a_script && accepts_html(headers)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|accept| {
        accept
            .as_bytes()
            .windows(9)
            .any(|part| part == b"text/html")
    })
}

/// What the browser SDKs and script libraries add to their requests.
const SCRIPT_HEADERS: [&str; 4] = ["rid", "anti-csrf", "st-auth-mode", "x-requested-with"];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// `scheme://authority` of a URL.
fn origin_of(url: &[u8]) -> &[u8] {
    let Some(scheme) = url.windows(3).position(|part| part == b"://") else {
        return url;
    };
    let end = url[scheme + 3..]
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'));
    end.map_or(url, |end| &url[..scheme + 3 + end])
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::{Origins, OwnOrigin, is_navigation};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn who_is_behind_a_request() {
        let configured = OwnOrigin::Configured("https://app.test".into());
        let host = HeaderValue::from_static("app.test");
        for (sent, cross_site) in [
            (&[][..], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "")], true),
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://app.test"),
                ],
                true,
            ),
            (&[("origin", "https://app.test")], false),
            (&[("origin", "HTTPS://APP.TEST")], false),
            (&[("origin", "null")], true),
            (&[("origin", "https://evil.test")], true),
            (&[("origin", "https://app.test.evil.test")], true),
            (&[("origin", "https://app.test:444")], true),
            (&[("referer", "https://app.test/login?x")], false),
            (&[("referer", "https://app.test")], false),
            (&[("referer", "https://app.test@evil.test/")], true),
            (&[("referer", "https://evil.test/https://app.test/")], true),
        ] {
            assert_eq!(
                configured.is_cross_site(&headers(sent), &host),
                cross_site,
                "{sent:?}"
            );
        }
    }

    #[test]
    fn allowed_origins_are_whole_and_the_only_ones() {
        let origins = Origins {
            own: OwnOrigin::Configured("https://api.app.test".into()),
            allowed: vec![
                "https://www.app.test".into(),
                "https://m.app.test:8443".into(),
            ],
        };
        let host = HeaderValue::from_static("api.app.test");
        for (sent, cross_site) in [
            (
                &[
                    ("origin", "https://www.app.test"),
                    ("sec-fetch-site", "same-site"),
                ][..],
                false,
            ),
            (
                &[
                    ("origin", "https://m.app.test:8443"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
            (&[("origin", "https://www.app.test")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("referer", "https://www.app.test/page")], true),
            (&[("origin", "http://www.app.test")], true),
            (&[("origin", "https://app.test")], true),
            (&[("origin", "https://www.app.test.evil.test")], true),
            (&[("origin", "https://m.app.test")], true),
            (&[("origin", "null")], true),
            (&[("origin", "*")], true),
            (
                &[
                    ("origin", "https://www.app.test"),
                    ("origin", "https://evil.test"),
                ],
                true,
            ),
        ] {
            assert_eq!(
                origins.is_cross_site(&headers(sent), &host),
                cross_site,
                "{sent:?}"
            );
        }
        let none = Origins {
            allowed: vec![],
            ..origins
        };
        assert_eq!(
            none.allowed_one(&headers(&[("origin", "https://www.app.test")])),
            None
        );
    }

    #[test]
    fn without_a_public_url_the_host_decides() {
        let host = HeaderValue::from_static("localhost:8080");
        for (origin, cross_site) in [
            ("http://localhost:8080", false),
            ("https://localhost:8080", false),
            ("http://localhost:3000", true),
            ("http://localhost", true),
            ("file://localhost:8080", true),
        ] {
            assert_eq!(
                OwnOrigin::Host.is_cross_site(&headers(&[("origin", origin)]), &host),
                cross_site,
                "{origin}"
            );
        }
    }

    #[test]
    fn pages_and_scripts_are_told_apart() {
        for (sent, navigation) in [
            (
                &[("sec-fetch-mode", "navigate"), ("accept", "*/*")][..],
                true,
            ),
            (
                &[("sec-fetch-mode", "cors"), ("accept", "text/html")],
                false,
            ),
            (&[("accept", "text/html,application/xhtml+xml")], true),
            (&[("accept", "text/html"), ("rid", "session")], false),
            (&[("accept", "*/*")], false),
            (&[("accept", "application/json")], false),
            (&[], false),
        ] {
            assert_eq!(is_navigation(&headers(sent)), navigation, "{sent:?}");
        }
    }
}
