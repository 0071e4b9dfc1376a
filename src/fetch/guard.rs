//! Where a url from a stranger may lead: scheme, port, user name, address; for the url itself, for
//! every redirect, for every answer of the resolver and for the peer that was reached.
//!
//! Nothing here opens a connection. reqwest does not ask a resolver about hosts that are written as
//! addresses, so both doors are needed: [`Guard::check_url`] for those and [`GuardedResolver`] for
//! names. The addresses a resolver call returned are the ones connected to: there is no second
//! look-up that a rebinding name server could answer differently.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;

use crate::fetch::address::special_use;
use crate::fetch::config::Config;
use crate::sample::Reason;
use crate::sample::Reject;
use crate::sample::Stage;

/// The rules of one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    private_networks: Arc<[IpNet]>,
    allowed_ports: Arc<[u16]>,
}

impl Guard {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Guard> {
        let private_networks: Arc<[IpNet]> =
            config.private_networks.iter().map(|text| network(text)).collect::<Result<_, _>>()?;
        let any_port = !private_networks.is_empty();
        let allowed_ports =
            if any_port { Arc::default() } else { config.allowed_ports.as_slice().into() };
        Ok(Guard { private_networks, allowed_ports })
    }

    /// The url, if it may be asked for as far as can be told without resolving its host.
    pub(crate) fn check_url(&self, url: &str) -> Result<Url, Reject> {
        let url = Url::parse(url).map_err(|e| invalid(e.to_string()))?;
        self.check(&url)?;
        Ok(url)
    }

    /// Where a redirect leads, if it may. `https` to `http` may not: what was promised to be
    /// authentic would be open to anyone on the way. Few pictures are lost by it.
    pub(crate) fn check_redirect(&self, from: &Url, location: &str) -> Result<Url, Reject> {
        let blocked = |why| Reject::new(Stage::Fetch, Reason::RedirectBlocked, why);
        let to = from.join(location).map_err(|e| blocked(e.to_string()))?;
        self.check(&to).map_err(|reject| blocked(reject.detail))?;
        if from.scheme() == "https" && to.scheme() == "http" {
            return Err(blocked("from https to http".into()));
        }
        Ok(to)
    }

    /// Whether an address may be talked to.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), BlockedAddress> {
        let address = address.to_canonical();
        match special_use(address) {
            Some(kind) if !self.private_networks.iter().any(|net| net.contains(&address)) => {
                Err(BlockedAddress { address, kind })
            }
            _ => Ok(()),
        }
    }

    fn check(&self, url: &Url) -> Result<(), Reject> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid(format!("the scheme {} is not http or https", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("a user name or password is in it".into()));
        }
        self.check_port(url)?;
        // The url crate has already turned 0x7f.1, 2130706433 and fullwidth digits into 127.0.0.1.
        let host = url.host_str().ok_or_else(|| invalid("it has no host".into()))?;
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => self.check_address(address).map_err(Reject::from),
            Err(_) => Ok(()),
        }
    }

    fn check_port(&self, url: &Url) -> Result<(), Reject> {
        let port = url.port_or_known_default().unwrap_or_default();
        if self.allowed_ports.is_empty() || self.allowed_ports.contains(&port) {
            return Ok(());
        }
        let detail = format!("port {port} is not allowed");
        Err(Reject::new(Stage::Fetch, Reason::AddressBlocked, detail))
    }
}

fn network(text: &str) -> anyhow::Result<IpNet> {
    text.parse().with_context(|| {
        format!("fetch.private_networks: {text:?} is not a network; write it like 10.1.0.0/16")
    })
}

fn invalid(detail: String) -> Reject {
    Reject::new(Stage::Fetch, Reason::UrlInvalid, detail)
}

/// An address that may not be talked to, and what it is instead of public.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BlockedAddress {
    address: IpAddr,
    kind: &'static str,
}

impl fmt::Display for BlockedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not public: {}", self.address, self.kind)
    }
}

impl Error for BlockedAddress {}

impl From<BlockedAddress> for Reject {
    fn from(blocked: BlockedAddress) -> Reject {
        Reject::new(Stage::Fetch, Reason::AddressBlocked, blocked.to_string())
    }
}

/// A resolver that fails with [`BlockedAddress`] if any answer of the inner one may not be talked
/// to. Dropping only the bad answers was rejected: a name with one foot inside is no public name.
pub(crate) struct GuardedResolver {
    /// Who really resolves.
    pub(crate) inner: Arc<dyn Resolve>,
    /// The rules.
    pub(crate) guard: Guard,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let answers = self.inner.resolve(name);
        let guard = self.guard.clone();
        Box::pin(async move {
            let answers: Vec<SocketAddr> = answers.await?.collect();
            for answer in &answers {
                guard.check_address(answer.ip())?;
            }
            Ok(Box::new(answers.into_iter()) as Addrs)
        })
    }
}

/// The operating system's resolver.
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0 is replaced by the url's own.
            let answers = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(answers.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_network_opens_itself_and_nothing_else() {
        let private_networks = vec!["127.0.0.0/8".into()];
        let guard = Guard::new(&Config { private_networks, ..Config::default() }).unwrap();
        assert!(guard.check_url("http://127.0.0.1:8080/").is_ok());
        assert!(guard.check_url("http://[::ffff:7f00:1]/").is_ok());
        assert!(guard.check_url("http://10.0.0.1/").is_err());
        assert!(guard.check_url("http://[::1]/").is_err());
    }

    #[test]
    fn a_network_that_cannot_be_read_is_named() {
        let private_networks = vec!["127.0.0.1".into()];
        let error = Guard::new(&Config { private_networks, ..Config::default() }).unwrap_err();
        assert!(error.to_string().contains("\"127.0.0.1\""), "{error}");
    }

    #[test]
    fn redirects_may_climb_to_https_and_never_step_down() {
        let guard = Guard::new(&Config::default()).unwrap();
        let plain = Url::parse("http://a.example/x/y?q").unwrap();
        let secure = Url::parse("https://a.example/").unwrap();
        assert_eq!(guard.check_redirect(&plain, "../z").unwrap().path(), "/z");
        assert!(guard.check_redirect(&plain, "https://b.example/").is_ok());
        for location in ["http://a.example/", "//10.0.0.1/", "ftp://a.example/", "https://u@a/"] {
            let reject = guard.check_redirect(&secure, location).unwrap_err();
            assert_eq!(reject.reason, Reason::RedirectBlocked, "{location}");
        }
    }
}
