//! Which IP addresses are public and which are somebody's own business.
//!
//! This file is a table and nothing else: whether an exception was configured is the guard's affair.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use ipnet::Ipv4Net;
use ipnet::Ipv6Net;

/// What an address is when it is not an ordinary public one. IPv4 in IPv6 clothes
/// (`::ffff:10.0.0.1`) is judged as what is inside.
pub(crate) fn special_use(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) => special_use_v4(v4),
        IpAddr::V6(v6) => special_use_v6(v6),
    }
}

fn special_use_v4(address: Ipv4Addr) -> Option<&'static str> {
    SPECIAL_V4.iter().find(|(net, _)| net.contains(&address)).map(|&(_, kind)| kind)
}

/// IPv6 is judged the other way round: only 2000::/3 is public at all, less some parts of it.
fn special_use_v6(address: Ipv6Addr) -> Option<&'static str> {
    if NAT64.contains(&address) {
        // On networks without IPv4 every IPv4 host looks like this: what counts is inside.
        let [.., a, b, c, d] = address.octets();
        return special_use_v4(Ipv4Addr::new(a, b, c, d));
    }
    if !GLOBAL_UNICAST.contains(&address) {
        return Some("not global unicast");
    }
    SPECIAL_V6.iter().find(|(net, _)| net.contains(&address)).map(|&(_, kind)| kind)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// The IANA registry of special-purpose addresses, and one cloud's metadata server that hides
/// among the public ones.
const SPECIAL_V4: [(Ipv4Net, &str); 18] = [
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "carrier-grade NAT"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(168, 63, 129, 16, 32), "metadata server"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol assignment"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 31, 196, 0, 24), "AS112"),
    (v4(192, 52, 193, 0, 24), "AMT"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved or broadcast"),
];

const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 3);

const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);

const SPECIAL_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "protocol assignment or Teredo"),
    (v6(0x2001, 0xdb8, 32), "documentation"),
    // Each carries an IPv4 address inside; 6to4 has no relays left, so none is worth decoding.
    (v6(0x2002, 0, 16), "6to4"),
    (v6(0x3fff, 0, 20), "documentation"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str) -> Option<&'static str> {
        special_use(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn the_edges_of_special_networks_are_where_they_should_be() {
        for (inside, outside) in [
            ("0.255.255.255", "1.0.0.0"),
            ("10.255.255.255", "11.0.0.0"),
            ("100.127.255.255", "100.128.0.0"),
            ("100.64.0.0", "100.63.255.255"),
            ("127.255.255.255", "128.0.0.0"),
            ("169.254.169.254", "169.253.255.255"),
            ("172.31.255.255", "172.32.0.0"),
            ("172.16.0.0", "172.15.255.255"),
            ("192.168.255.255", "192.169.0.0"),
            ("198.19.255.255", "198.20.0.0"),
            ("224.0.0.0", "223.255.255.255"),
            ("168.63.129.16", "168.63.129.17"),
            ("2001:1ff::1", "2001:200::1"),
            ("2002:808:808::1", "2003::1"),
            ("1fff::1", "2600::1"),
            ("64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8"),
            ("::ffff:10.0.0.1", "::ffff:8.8.8.8"),
        ] {
            assert!(kind(inside).is_some(), "{inside}");
            assert_eq!(kind(outside), None, "{outside}");
        }
    }

    #[test]
    fn everything_outside_global_unicast_is_blocked() {
        for address in
            ["::", "::1", "::7f00:1", "64:ff9b:1::1", "100::1", "fc00::1", "fd00:ec2::254"]
                .into_iter()
                .chain(["fe80::1", "fec0::1", "ff02::1", "4000::1", "5f00::1"])
        {
            assert!(kind(address).is_some(), "{address}");
        }
    }
}
