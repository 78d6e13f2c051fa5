//! `[server.tls]`: certificates, and what is spoken with them.

use std::path::Path;
use std::time::Duration;

use super::reader::Section;
use super::values;
use crate::certificates::{
    CertificateFiles, CertificateSettings, ClientHosts, ClientSettings, Names,
};

/// TLS of the public listeners.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificates: CertificateSettings,
    /// For how long browsers are told to come by TLS alone.
    pub hsts: Option<Duration>,
}

impl Tls {
    /// `None` if nobody asks for it, or what is asked for has been reported.
    pub(super) fn read(section: &mut Section<'_>, base: &Path) -> Option<Self> {
        let file = |text: &str| values::file(text, base);
        let certificates = section.optional_texts("certificate", file);
        let keys = section.optional_texts("key", file);
        let ocsp = section.optional_texts("ocsp", |text| match text {
            "" => Ok(None),
            text => file(text).map(Some),
        });
        // 1.2 with the suites that are offered (AEAD and forward secrecy alone) is not known to be weak.
        let allow_tls12 = section.one_of("minimum_version", &[("1.2", true), ("1.3", false)]);
        let hsts = section.optional_text("hsts", values::duration);
        let clients = read_clients(section, base);
        if !section.has("certificate") && !section.has("key") {
            return None;
        }
        let counts = ["certificate", "key"].map(|key| section.count(key));
        if counts[0] != counts[1] || counts[0] == 0 {
            section.refuse(
                match section.has("key") {
                    true => "key",
                    false => "certificate",
                },
                "as many certificates as keys, in the same order",
            );
            return None;
        }
        if section.has("ocsp") && section.count("ocsp") != counts[0] {
            section.refuse("ocsp", "as many files as certificates, in the same order");
        }
        let mut ocsp = ocsp.unwrap_or_default().into_iter();
        let with_ocsp = |(certificate, key)| CertificateFiles {
            certificate,
            key,
            ocsp: ocsp.next().flatten(),
        };
        let mut files = certificates?.into_iter().zip(keys?).map(with_ocsp);
        Some(Self {
            certificates: CertificateSettings {
                default: files.next()?,
                by_name: files.collect(),
                allow_tls12,
                clients,
            },
            hsts,
        })
    }

    /// Whether it is asked for, however badly.
    pub(super) fn is_wanted(section: &mut Section<'_>) -> bool {
        section.has("certificate") || section.has("key")
    }
}

/// Whether clients have to show a certificate, where, and whose.
fn read_clients(section: &mut Section<'_>, base: &Path) -> Option<ClientSettings> {
    let issuers = section.optional_text("client_ca", |text| values::file(text, base));
    let required = section.one_of(
        "client_certificate",
        &[("required", true), ("optional", false)],
    );
    let hosts = section.optional_texts("client_certificate_hosts", values::host_pattern);
    if section.has("client_certificate_hosts") && !section.has("client_ca") {
        section.conflict(
            "client_certificate_hosts",
            "nobody's certificates are taken without client_ca",
        );
    }
    if hosts.as_ref().is_some_and(Vec::is_empty) && section.count("client_certificate_hosts") == 0 {
        section.refuse("client_certificate_hosts", "at least one host name");
    }
    Some(ClientSettings {
        issuers: issuers?,
        required,
        hosts: match hosts {
            None => ClientHosts::All,
            Some(hosts) => ClientHosts::These(Names::new(hosts.iter().map(String::as_str))),
        },
    })
}
