//! A separate network for one grid: a namespace for each program, joined by a bridge in one more, and rules that drop
//! traffic between members. It does not affect the machine's own network. Needs root.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The namespace of the bridge, from which the test itself connects.
const HUB: &str = "hub";
/// Host number of the first member. Every network has the same addresses, since they are not connected.
const FIRST_MEMBER: u8 = 1;
/// Host number of the bridge.
const HUB_HOST: u8 = 254;
/// The directory of named namespaces.
const NAMESPACES: &str = "/run/netns";
/// Prefix of the names of all namespaces of tests; the number of the test's process follows.
const NAME_PREFIX: &str = "orbit-test-";

/// Namespaces and their bridge. Dropping it removes them, even when a test fails.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    members: Vec<String>,
}

impl Network {
    /// A network whose members can all reach each other.
    pub fn new(members: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let members = members.iter().map(|&name| name.to_owned()).collect();
        let network = Self { prefix: format!("{NAME_PREFIX}{process}-{number}-"), members };
        let hub = network.namespace(HUB);
        network.add_namespace(HUB);
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &hub, "address", "add", &format!("{}/24", address(HUB_HOST)), "dev", "br0"]);
        ip(&["-n", &hub, "link", "set", "br0", "up"]);
        for (index, name) in network.members.iter().enumerate() {
            network.add_namespace(name);
            let (namespace, port) = (network.namespace(name), format!("port{index}"));
            let pair = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace];
            ip(&[&["-n", &hub], &pair[..]].concat());
            ip(&["-n", &hub, "link", "set", &port, "master", "br0", "up"]);
            let place = format!("{}/24", network.address(name));
            ip(&["-n", &namespace, "address", "add", &place, "dev", "eth0"]);
            ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        }
        network
    }

    fn add_namespace(&self, name: &str) {
        let namespace = self.namespace(name);
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The address of a member.
    pub fn address(&self, name: &str) -> IpAddr {
        let index = self.members.iter().position(|member| member == name);
        let index = index.unwrap_or_else(|| panic!("{name} is not in this network"));
        address(FIRST_MEMBER + u8::try_from(index).expect("a network of a test is small"))
    }

    /// The prefix of a command that is to run as a member.
    pub fn prefix(&self, name: &str) -> Vec<OsString> {
        ["ip", "netns", "exec", &self.namespace(name)].map(OsString::from).to_vec()
    }

    /// The namespace from which a test reaches every member, regardless of cuts between them.
    pub fn hub(&self) -> PathBuf {
        PathBuf::from(NAMESPACES).join(self.namespace(HUB))
    }

    /// Drops what one member sends to the other from now on; the other direction still works.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        let source = self.address(from).to_string();
        self.iptables(to, &["--append", "INPUT", "--source", &source, "--jump", "DROP"]);
    }

    /// Drops all traffic between two members from now on.
    pub fn cut(&self, one: &str, other: &str) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Removes all cuts.
    pub fn heal(&self) {
        for member in &self.members {
            self.iptables(member, &["--flush", "INPUT"]);
        }
    }

    /// Takes a member's link down, as when a cable is pulled, or up again.
    pub fn set_link(&self, name: &str, is_up: bool) {
        let state = if is_up { "up" } else { "down" };
        ip(&["-n", &self.namespace(name), "link", "set", "eth0", state]);
    }

    fn iptables(&self, member: &str, arguments: &[&str]) {
        let namespace = self.namespace(member);
        run("ip", &[&["netns", "exec", &namespace, "iptables", "--wait"], arguments].concat(), "iptables");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.members.iter().map(String::as_str).chain([HUB]) {
            remove(&self.namespace(name));
        }
    }
}

fn address(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, host))
}

/// Removes what killed tests have left.
fn remove_abandoned() {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !PathBuf::from("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}

/// The bridge and the links are removed with their namespaces. A failure has no reader.
fn remove(namespace: &str) {
    let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
}

fn ip(arguments: &[&str]) {
    run("ip", arguments, "iproute2");
}

/// Runs a command that must succeed. Without the program or the permission the test fails with that reason.
fn run(program: &str, arguments: &[&str], package: &str) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (Debian package {package}): {error}"));
    assert!(
        output.status.success(),
        "{program} {} failed; it needs root and the Debian package {package}:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
