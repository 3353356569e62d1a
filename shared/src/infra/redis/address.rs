use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisResult};

/// What REDIS_URL names.
pub(super) enum Place {
    Server(Box<Client>),
    /// Some nodes of a cluster, at least one; they know the others.
    Cluster(Vec<ConnectionInfo>),
}

/// Reads `redis://…` (or what else the crate knows) as one server, and `redis+cluster://user:password@host:port,…/` or
/// `rediss+cluster://…` as nodes of a cluster, which share everything but the address.
///
/// # Errors
/// Says what is wrong; never quotes the password.
pub(super) fn parse(url: &str) -> Result<Place, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("redis+cluster", rest)) => ("redis", rest),
        Some(("rediss+cluster", rest)) => ("rediss", rest),
        other => {
            let nodes = other.map_or("", |(_, rest)| split(rest).1);
            if nodes.contains(',') {
                return Err("several nodes are a cluster: write redis+cluster://host:port,host:port,…".to_owned());
            }
            let client = connection(url).and_then(Client::open);
            return client.map(Box::new).map(Place::Server).map_err(|e| format!("not a Redis URL: {e}"));
        }
    };
    let (user, nodes, options) = split(rest);
    let seed = |node: &str| {
        if node.is_empty() {
            return Err("a node of the cluster has no name: write redis+cluster://host:port,host:port,…".to_owned());
        }
        let info = connection(&format!("{scheme}://{user}{node}{options}"))
            .map_err(|e| format!("not a Redis URL at the cluster's node `{node}`: {e}"))?;
        match info.redis_settings().db() {
            0 => Ok(info),
            number => Err(format!("a cluster has no database {number}, only 0")),
        }
    };
    nodes.split(',').map(|node| seed(node.trim())).collect::<Result<_, _>>().map(Place::Cluster)
}

/// Nothing waits for what is on its way: a command that goes out in two writes would rest 40 ms between them, until Redis
/// says that it has half of it.
fn connection(url: &str) -> RedisResult<ConnectionInfo> {
    Ok(url.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// `user:password@`, the nodes, and all from the slash on.
fn split(rest: &str) -> (&str, &str, &str) {
    let (authority, options) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, nodes) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    (user, nodes, options)
}

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;

    use super::*;

    #[test]
    fn a_cluster_is_named_by_some_of_its_nodes() {
        let nodes = |url: &str| match parse(url) {
            Ok(Place::Cluster(seeds)) => seeds,
            Ok(Place::Server(_)) => panic!("{url} is a cluster"),
            Err(error) => panic!("{url}: {error}"),
        };
        let seeds = nodes("redis+cluster://app:p%40ss@one:7001, two,[::1]:7003/0?protocol=resp3");
        let at = |host: &str, port| ConnectionAddr::Tcp(host.to_owned(), port);
        let addresses: Vec<_> = seeds.iter().map(|seed| seed.addr().clone()).collect();
        assert_eq!(addresses, [at("one", 7001), at("two", 6379), at("::1", 7003)]);
        for seed in &seeds {
            let settings = seed.redis_settings();
            assert_eq!((settings.username(), settings.password()), (Some("app"), Some("p@ss")));
            assert_eq!(settings.protocol(), redis::ProtocolVersion::RESP3);
        }
        assert!(matches!(nodes("rediss+cluster://one")[0].addr(), ConnectionAddr::TcpTls { .. }));
        assert!(matches!(parse("redis://:secret@one:7001/1"), Ok(Place::Server(_))));
    }

    #[test]
    fn no_command_waits_for_half_of_another_to_arrive() {
        let Ok(Place::Server(server)) = parse("redis://one") else { panic!("a server") };
        assert!(server.get_connection_info().tcp_settings().nodelay());
        let Ok(Place::Cluster(seeds)) = parse("redis+cluster://one,two") else { panic!("a cluster") };
        assert!(seeds.iter().all(|seed| seed.tcp_settings().nodelay()));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let fault = |url: &str| parse(url).err().unwrap_or_else(|| panic!("{url} is accepted"));
        for (url, says) in [
            ("http://:secret@one", "not a Redis URL"),
            ("redis://:secret@one:7001,two:7002/", "write redis+cluster://"),
            ("redis+cluster://", "has no name"),
            ("redis+cluster://:secret@one:7001,,two", "has no name"),
            ("redis+cluster://:secret@one:7001,two:x", "node `two:x`"),
            ("redis+cluster://:secret@one:7001/3", "no database 3"),
        ] {
            let fault = fault(url);
            assert!(fault.contains(says) && !fault.contains("secret"), "{url}: {fault}");
        }
    }
}
