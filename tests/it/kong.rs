//! The Kong plugin as it is shipped, with the shipped `kong.yaml`, in a real nginx with Lua: what the caller gets, and what the application sees.
//!
//! Kong itself is in no registry. `kong/pdk.lua` stands in for just those of its documented calls that the plugin makes.

mod hostile;
mod identity;
mod memory;
mod oracle;
mod real;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Once;

use portcullis::dev::upstream::Upstream;
use portcullis::dev::wire::Answer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::parts::{Tethered, missing, port, program};
use crate::support::{ANY_PORT, DEADLINE, TempDir, ask};

const KONG_YAML: &str = include_str!("../../deploy/kong/kong.yaml");
const NGINX_CONF: &str = include_str!("kong/nginx.conf");

/// nginx and the directory of its modules, the Lua module among them; without, the test is skipped on a laptop, and fails where `CI` is `true`.
fn nginx() -> Option<(PathBuf, PathBuf)> {
    static ONCE: Once = Once::new();
    let modules = PathBuf::from("/usr/lib/nginx/modules");
    let path =
        program("NGINX", &["nginx"]).or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| path.is_file()));
    let found = path.filter(|_| modules.join("ngx_http_lua_module.so").is_file());
    if found.is_none() {
        missing(
            &ONCE,
            "the tests of the Kong plugin",
            "Install nginx and libnginx-mod-http-lua, or run `make kong-lua`.",
        );
    }
    found.map(|program| (program, modules))
}

/// Who signs certificates, and its own in PEM.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = Issuer::new(params.clone(), KeyPair::generate().unwrap());
    let pem = params.self_signed(ca.key()).unwrap().pem();
    (ca, pem)
}

/// The shipped declarative file, with this in its portcullis plugin's configuration.
fn shipped(changes: &[(&str, Value)]) -> Value {
    let mut file: Value = serde_saphyr::from_str(KONG_YAML).unwrap();
    let plugins = file["plugins"].as_array_mut().unwrap();
    let plugin = plugins.iter_mut().find(|plugin| plugin["name"] == "portcullis").unwrap();
    for (name, value) in changes {
        plugin["config"][*name] = value.clone();
    }
    file
}

/// An nginx with the plugin, and a mirror behind it.
struct Kong {
    address: SocketAddr,
    /// The same over HTTP/2.
    grpc: SocketAddr,
    upstream: Upstream,
    running: Tethered,
    dir: TempDir,
}

impl Kong {
    /// With this declarative file, and more lines for `http {}`; `None` where there is no nginx.
    async fn with(file: &Value, more: &str, prepare: impl FnOnce(&TempDir)) -> Option<Self> {
        let (program, modules) = nginx()?;
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let [address, grpc] = [port(), port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let dir = TempDir::new();
        dir.file("ca.pem", authority().1);
        prepare(&dir);
        let mut running = start(&program, &modules, &dir, (file, more), [address, grpc, upstream.address()]);
        running.until(DEADLINE, |_| TcpStream::connect(address).and(TcpStream::connect(grpc)).ok());
        Some(Self { address, grpc, upstream, running, dir })
    }

    /// With the shipped file, asking portcullis at this URL and in no hurry: a machine that compiles and tests at once is slow.
    async fn asking(url: &str, changes: &[(&str, Value)]) -> Option<Self> {
        let mut all = vec![("url", url.into()), ("timeout", 5000.into())];
        all.extend_from_slice(changes);
        Self::with(&shipped(&all), "", |_| ()).await
    }

    async fn ask(&self, raw: impl AsRef<[u8]>) -> Answer {
        ask(self.address, raw).await
    }

    /// What it has logged of requests.
    fn log(&self) -> String {
        self.running.log()
    }
}

/// The same before an application of the test's own. What it returns must be kept; `None` where there is no nginx.
pub fn before(upstream: SocketAddr, portcullis: SocketAddr) -> Option<(SocketAddr, impl Sized)> {
    let (program, modules) = nginx()?;
    let [address, grpc] = [port(), port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let dir = TempDir::new();
    dir.file("ca.pem", authority().1);
    let file = shipped(&[("url", format!("http://{portcullis}").into()), ("timeout", 5000.into())]);
    let mut running = start(&program, &modules, &dir, (&file, ""), [address, grpc, upstream]);
    running.until(DEADLINE, |_| TcpStream::connect(address).ok());
    Some((address, (running, dir)))
}

fn start(
    program: &Path,
    modules: &Path,
    dir: &TempDir,
    (file, more): (&Value, &str),
    [listen, grpc, upstream]: [SocketAddr; 3],
) -> Tethered {
    dir.file("kong.json", file.to_string());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = NGINX_CONF.to_owned();
    for (mark, value) in [
        ("MODULES", modules.display().to_string()),
        ("# MORE", more.to_owned()),
        ("DIR", dir.path().display().to_string()),
        ("PLUGIN", root.join("deploy/kong").display().to_string()),
        ("HERE", root.join("tests/it/kong").display().to_string()),
        ("LISTEN", listen.port().to_string()),
        ("GRPC", grpc.port().to_string()),
        ("UPSTREAM", upstream.to_string()),
    ] {
        text = text.replace(mark, &value);
    }
    let conf = dir.file("nginx.conf", text);
    Tethered::start(program, |command| {
        let token = format!("from-the-environment-{}", "v".repeat(32));
        command.env("PORTCULLIS_TOKEN", token).args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(conf);
    })
}

#[tokio::test]
async fn a_configuration_that_the_schema_refuses_does_not_start() {
    let Some((program, modules)) = nginx() else { return };
    let refused: [(&[(&str, Value)], &str); 13] = [
        (&[("url", Value::Null)], "config.url: required field missing"),
        (&[("url", "http://".into())], "config.url: must be http://host[:port]"),
        (&[("url", "http://u:p@a".into())], "config.url: must be http://host[:port]"),
        (&[("url", "http://a:0".into())], "config.url: must name a port"),
        (&[("url", "http://a:1:2".into())], "config.url: must name a host"),
        (&[("url", "http://a/v1/check".into())], "config.url: must be http://host[:port]"),
        (&[("url", "http://a\r\nx: y".into())], "config.url: must hold no blanks"),
        (&[("timeout", 0.into())], "config.timeout: out of range"),
        (&[("timeout", 5001.into())], "config.timeout: out of range"),
        (&[("timeout", "200".into())], "config.timeout: expected a integer"),
        (&[("token", "short".into())], "config.token: length must be at least 32"),
        (&[("consumer_by", "username".into())], "all or none of these fields must be set"),
        (&[("fail_open", true.into())], "config.fail_open: unknown field"),
    ];
    for (changes, why) in refused {
        let mut file = shipped(changes);
        let plugin = file["plugins"].as_array_mut().unwrap().iter_mut().find(|plugin| plugin["name"] == "portcullis");
        plugin.unwrap()["config"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let dir = TempDir::new();
        dir.file("ca.pem", authority().1);
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port()));
        let mut running =
            start(&program, &modules, &dir, (&file, ""), [at, SocketAddr::from((Ipv4Addr::LOCALHOST, port())), at]);
        running.until(DEADLINE, |log| log.contains(why).then_some(()));
    }
}

#[tokio::test]
async fn the_manifests_for_kubernetes_hold_a_configuration_that_starts() {
    const MANIFESTS: &str = include_str!("../../deploy/kong/kubernetes.yaml");
    let manifests: Vec<Value> = serde_saphyr::from_multiple(MANIFESTS).unwrap();
    assert_eq!(manifests.len(), 2);
    for manifest in manifests {
        assert_eq!(
            (&manifest["apiVersion"], &manifest["plugin"]),
            (&"configuration.konghq.com/v1".into(), &"portcullis".into())
        );
        let mut file = shipped(&[]);
        let plugins = file["plugins"].as_array_mut().unwrap();
        plugins.iter_mut().find(|plugin| plugin["name"] == "portcullis").unwrap()["config"] =
            manifest["config"].clone();
        let Some(kong) = Kong::with(&file, "", |_| ()).await else { return };
        assert_eq!((kong.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, kong.upstream.seen()), (503, 0));
    }
}

#[test]
fn the_rock_and_the_configmap_hold_every_file_of_the_plugin() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kong/kong/plugins/portcullis");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let rock = include_str!("../../deploy/kong/kong-plugin-portcullis-0.1.0-1.rockspec");
    let listed: Vec<_> = rock.lines().filter(|line| line.contains("[\"kong.plugins.portcullis.")).collect();
    let expected: Vec<_> = files
        .iter()
        .map(|file| {
            let module = file.strip_suffix(".lua").expect("only Lua: a ConfigMap has no folders");
            format!("    [\"kong.plugins.portcullis.{module}\"] = \"kong/plugins/portcullis/{file}\",")
        })
        .collect();
    assert_eq!(listed, expected);
    let version = format!("VERSION = \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(include_str!("../../deploy/kong/kong/plugins/portcullis/handler.lua").contains(&version));
    assert!(rock.contains(&format!("version = \"{}-1\"", env!("CARGO_PKG_VERSION"))));
}
