//! `deploy/kubernetes`: the chart by the real helm, everything by published schemas, and what the manifests start by the real binaries.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Output, Stdio};
use std::sync::Once;

use portcullis::dev::envoy::{self, Envoy};
use portcullis::dev::upstream::Upstream;
use serde_json::Value;
use tokio::process::Command;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::parts::missing;
use crate::support::{ANY_PORT, Process, TempDir, ask, envoy_program, start_envoy};

/// The chart is for this one and newer; a helm that was built from its module does not know of any.
const CLUSTER: [&str; 2] = ["--kube-version", "1.37.0"];

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The one document of this kind.
fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("there is no {kind}"))
}

/// What `make setup` put there. Without it the test is skipped on a laptop, and fails where `CI` is `true`.
fn tools() -> Option<PathBuf> {
    static ONCE: Once = Once::new();
    let folder = at(".tools/kubernetes");
    if folder.join(".fetched").is_file() {
        return Some(folder);
    }
    missing(
        &ONCE,
        "the tests with helm and the schemas of Kubernetes",
        "Install Go and Python 3 with venv, and run `make setup`.",
    );
    None
}

fn helm(tools: &Path, arguments: &[&str]) -> Output {
    let mut helm = Program::new(tools.join("helm"));
    helm.args(arguments).args(CLUSTER).current_dir(at("deploy/kubernetes")).env("HOME", tools).output().unwrap()
}

fn rendered(tools: &Path, more: &[&str]) -> String {
    let run = helm(tools, &[&["template", "portcullis", "chart", "--namespace", "portcullis"], more].concat());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// Holds files, and a text where there is one, against the schemas. Says what was wrong.
fn validated(tools: &Path, files: &[&str], text: &str) -> Result<String, String> {
    let mut validate = Program::new(tools.join("venv/bin/python"));
    validate.arg(at("tests/kubernetes/validate.py")).arg(tools.join("schemas")).args(files).current_dir(at("."));
    let mut child = validate.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let run = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    if run.status.success() { Ok(said) } else { Err(said) }
}

#[test]
fn the_chart_renders_to_the_shipped_manifest() {
    let Some(tools) = tools() else { return };
    let lint = helm(&tools, &["lint", "--strict", "chart"]);
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    let shipped = read("deploy/kubernetes/portcullis.yaml");
    let (_, objects) = shipped.split_once("\n---\n").unwrap();
    assert!(
        rendered(&tools, &[]).strip_prefix("---\n") == Some(objects),
        "deploy/kubernetes/portcullis.yaml is not what the chart renders: \
         keep its first lines and append `helm template portcullis chart --namespace portcullis`"
    );
}

#[test]
fn every_object_fits_its_published_schema_and_rules() {
    let Some(tools) = tools() else { return };
    let all = at("tests/kubernetes/all.yaml").display().to_string();
    let plain = ["istio-mesh", "istio", "envoy-gateway", "contour", "portcullis", "sidecar"];
    let plain = plain.map(|name| format!("deploy/kubernetes/{name}.yaml"));
    let mut files: Vec<&str> = plain.iter().map(String::as_str).collect();
    files.extend(["experimental:deploy/kubernetes/gateway-api.yaml", "-"]);
    let here = fs::read_dir(at("deploy/kubernetes")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file());
    assert_eq!(files.len(), here.count() + 1, "a manifest that is not held against its schema");
    let said =
        validated(&tools, &files, &rendered(&tools, &["--values", &all])).unwrap_or_else(|said| panic!("{said}"));
    for kind in ["-: ServiceMonitor", "-: Deployment", "MeshConfig", "SecurityPolicy", "ExtensionService"] {
        assert!(said.contains(kind), "{kind}: {said}");
    }
}

#[test]
fn a_field_that_no_schema_knows_is_refused() {
    let Some(tools) = tools() else { return };
    for (file, written, misspelt, told) in [
        ("portcullis", "seccompProfile", "seccomProfile", "seccomProfile"),
        ("envoy-gateway", "failOpen", "failOpn", "failOpn"),
        ("contour", "responseTimeout", "responsTimeout", "responsTimeout"),
        ("istio", "provider:", "providers:", "providers"),
        ("istio-mesh", "statusOnError", "statusOnErrors", "statusOnErrors"),
        // Rules in CEL, which an API server asks as well.
        ("envoy-gateway", "kind: SecurityPolicy\n      namespace", "kind: SecurityPolicy\n      name", "name"),
        (
            "envoy-gateway",
            "kind: Gateway\n      name",
            "kind: Service\n      name",
            "can only have a targetRefs[*].kind",
        ),
    ] {
        let text = read(&format!("deploy/kubernetes/{file}.yaml"));
        let wrong = text.replace(written, misspelt);
        assert_ne!(wrong, text, "{written}");
        let said = validated(&tools, &["-"], &wrong).expect_err(misspelt);
        assert!(said.contains(told), "{said}");
    }
}

#[test]
fn the_chart_refuses_values_that_it_does_not_know_or_that_do_harm() {
    let Some(tools) = tools() else { return };
    for (set, told) in [
        ("nonsense=1", "nonsense"),
        ("networkPolicy.gateway=x", "gateway"),
        ("listen.bind=127.0.0.1", "bind"),
        ("place.listen.grpc=x", "place"),
        ("keyCache.claim=keys", "each replica needs a folder of its own"),
        ("user=0", "user"),
        ("replicas=two", "replicas"),
    ] {
        let run = helm(&tools, &["template", "portcullis", "chart", "--set", set]);
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success() && said.contains(told), "{set}: {said}");
    }
    // A NetworkPolicy rule without `from` would let everybody in.
    let nobody = rendered(&tools, &["--set", "networkPolicy.gateways=null,networkPolicy.metrics=null"]);
    assert_eq!(of_kind(&documents(&nobody), "NetworkPolicy")["spec"]["ingress"], Value::Array(vec![]));
}

#[test]
fn what_all_options_render_loads() {
    let Some(tools) = tools() else { return };
    let all = at("tests/kubernetes/all.yaml").display().to_string();
    let documents = documents(&rendered(&tools, &["--values", &all]));
    let data = &of_kind(&documents, "ConfigMap")["data"];
    let dir = TempDir::new();
    for name in ["portcullis.yaml", "place.yaml"] {
        dir.file(name, data[name].as_str().unwrap());
    }
    let run = portcullis(&dir, &["check", "--stub-secrets", "-c", "portcullis.yaml", "-c", "place.yaml"]);
    assert!(run.contains("REDIS_PASSWORD"), "{run}");
    // Every port that it listens on is a port of the container, and one of the two Services and the NetworkPolicy name it.
    for port in [9443, 9444, 9091, 9003] {
        assert!(data["place.yaml"].as_str().unwrap().contains(&format!("'[::]:{port}'")), "{data}");
        let named = format!("\"containerPort\":{port},");
        let (container, service) = (of_kind(&documents, "Deployment").to_string(), format!("\"port\":{port},"));
        assert!(container.contains(&named) || container.contains(&named.replace(',', "}")), "{container}");
        let services: String = documents.iter().filter(|one| one["kind"] == "Service").map(Value::to_string).collect();
        assert!(services.contains(&service) || services.contains(&service.replace(',', "}")), "{services}");
        assert!(of_kind(&documents, "NetworkPolicy")["spec"]["ingress"].to_string().contains(&service), "{port}");
    }
}

#[test]
fn the_dockerfile_has_no_fault_that_hadolint_knows() {
    let Some(tools) = tools() else { return };
    let run = Program::new(tools.join("venv/bin/hadolint")).arg(at("Dockerfile")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
    // The user of the image is the one that owns the volumes of the manifests.
    assert!(read("Dockerfile").contains("\nUSER 65532:65532\n"));
    assert!(read("deploy/kubernetes/portcullis.yaml").contains(" runAsUser: 65532\n"));
}

#[test]
#[cfg(target_os = "linux")]
fn the_binary_needs_no_library_that_its_image_lacks() {
    let run = Program::new("ldd").arg(env!("CARGO_BIN_EXE_portcullis")).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    // distroless/cc: the C library and libgcc_s.
    let there = ["linux-vdso", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux"];
    let lacking = said.lines().filter(|line| !there.iter().any(|name| line.contains(name)));
    assert_eq!(lacking.collect::<Vec<_>>(), Vec::<&str>::new(), "{said}");
}

/// Runs a command that ends, and succeeds.
fn portcullis(dir: &TempDir, arguments: &[&str]) -> String {
    let run = Program::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{arguments:?}: {said}");
    said
}

/// A pod on this machine: its volumes below a folder, where its containers find them at other paths and ports and nothing else changed.
struct Pod {
    dir: TempDir,
    spec: Value,
}

impl Pod {
    fn of(documents: &[Value]) -> Self {
        let dir = TempDir::new();
        let spec = of_kind(documents, "Deployment")["spec"]["template"]["spec"].clone();
        let pod = Self { dir, spec };
        for container in pod.containers() {
            for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                let path = pod.path(mount["mountPath"].as_str().unwrap());
                fs::create_dir_all(&path).unwrap();
                let volumes = pod.spec["volumes"].as_array().unwrap();
                let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
                let Some(map) = volume.get("configMap") else { continue };
                let data = of_kind(documents, "ConfigMap")["data"].as_object().unwrap();
                let wanted = |key: &str| {
                    map.get("items").is_none_or(|items| items.as_array().unwrap().iter().any(|item| item["key"] == key))
                };
                for (key, text) in data.iter().filter(|(key, _)| wanted(key)) {
                    fs::write(path.join(key), pod.moved(text.as_str().unwrap())).unwrap();
                }
            }
        }
        pod
    }

    fn containers(&self) -> impl Iterator<Item = &Value> {
        let of = |key| self.spec[key].as_array().into_iter().flatten();
        of("initContainers").chain(of("containers"))
    }

    fn container(&self, name: &str) -> &Value {
        self.containers().find(|container| container["name"] == name).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// The text with the pod's paths below our folder, and ports that the system chooses.
    fn moved(&self, text: &str) -> String {
        let below = |path: &str| self.path(path).display().to_string();
        ["/etc/portcullis", "/etc/envoy", "/var/lib/portcullis", "/run/portcullis"]
            .iter()
            .fold(text.to_owned(), |text, path| text.replace(path, &below(path)))
            .replace("0.0.0.0:9000", "0.0.0.0:0")
            .replace("0.0.0.0:9001", "0.0.0.0:0")
    }

    fn arguments(&self, name: &str) -> Vec<String> {
        let arguments = self.container(name)["args"].as_array().unwrap();
        arguments.iter().map(|argument| self.moved(argument.as_str().unwrap())).collect()
    }

    /// Checks and tests the policy, and starts the container `portcullis`.
    fn start(&self) -> Process {
        let arguments = self.arguments("portcullis");
        let files: Vec<&str> =
            arguments.iter().filter(|argument| argument.starts_with("--config=")).map(String::as_str).collect();
        portcullis(&self.dir, &[&["check"], &files[..]].concat());
        assert!(portcullis(&self.dir, &[&["test"], &files[..]].concat()).contains("0 failed"));
        Process::start(Command::new(env!("CARGO_BIN_EXE_portcullis")).args(&arguments).env_clear())
    }
}

/// The address of a line of the log, on loopback.
async fn address(process: &mut Process, line: &str) -> SocketAddr {
    let line: Value = serde_json::from_str(&process.line_with(line).await).unwrap();
    let address: SocketAddr = line["address"].as_str().unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    assert!(address.ip().is_unspecified(), "a kubelet probes the pod's own address: {address}");
    (ANY_PORT.ip(), address.port()).into()
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

async fn serving(to: SocketAddr) -> ServingStatus {
    let channel = Endpoint::from_shared(format!("http://{to}")).unwrap().connect().await.unwrap();
    let asked = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel).check(asked).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn the_shared_service_starts_is_probed_scraped_and_asked_as_the_manifest_says() {
    let documents = documents(&read("deploy/kubernetes/portcullis.yaml"));
    let pod = Pod::of(&documents);
    let mut process = pod.start();
    let grpc = address(&mut process, "answering gateways").await;
    let admin = address(&mut process, "health and metrics").await;
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(pod.container("portcullis")[probe]["grpc"]["port"], 9000);
    }
    assert_eq!(serving(grpc).await, ServingStatus::Serving);
    // Prometheus asks a pod by its address; what tells of the policy needs a token there.
    assert_eq!(ask(admin, get("10.1.2.3:9001", "/metrics")).await.status, 200);
    assert_eq!(ask(admin, get("10.1.2.3:9001", "/issuers")).await.status, 403);
    // The root is read-only: where keys are kept must be a volume.
    let place = of_kind(&documents, "ConfigMap")["data"]["place.yaml"].as_str().unwrap();
    let kept = place.lines().find_map(|line| line.strip_prefix("key_cache: ")).unwrap();
    let mounts = pod.container("portcullis")["volumeMounts"].as_array().unwrap();
    let writable =
        mounts.iter().filter(|mount| mount["readOnly"] != true).map(|mount| mount["mountPath"].as_str().unwrap());
    assert!(writable.into_iter().any(|path| kept.starts_with(path)), "{kept}");
    if let Some(program) = envoy_program() {
        let upstream = Upstream::start(ANY_PORT).await.unwrap();
        let envoy = start_envoy(&program, grpc, upstream.address()).await;
        assert_eq!(ask(envoy.address(), get("shop.test", "/health")).await.status, 200);
        assert_eq!(ask(envoy.address(), get("shop.test", "/orders")).await.status, 401);
        assert_eq!(upstream.seen(), 1);
    }
    process.signal("TERM");
    process.line_with("draining").await;
    assert_eq!(ask(admin, get("10.1.2.3:9001", "/readyz")).await.status, 503);
    assert_eq!(serving(grpc).await, ServingStatus::NotServing);
}

#[tokio::test]
async fn the_sidecar_is_asked_over_its_socket_by_the_envoy_in_its_pod() {
    let Some(program) = envoy_program() else { return };
    let documents = documents(&read("deploy/kubernetes/sidecar.yaml"));
    let shipped = of_kind(&documents, "ConfigMap")["data"]["envoy.yaml"].as_str().unwrap();
    let own =
        envoy::TEMPLATE.replace("address: 127.0.0.1, port_value: 8000", "address: 0.0.0.0, port_value: 8000").replace(
            "socket_address: { address: 127.0.0.1, port_value: 9000 }",
            "pipe: { path: /run/portcullis/grpc.sock }",
        );
    assert!(shipped == own, "envoy.yaml of the sidecar is deploy/envoy/envoy.yaml with another address and the socket");

    let pod = Pod::of(&documents);
    let mut process = pod.start();
    process.line_with("answering gateways").await;
    let admin = address(&mut process, "health and metrics").await;
    assert_eq!(ask(admin, get("10.1.2.3:9001", "/readyz")).await.status, 200);
    assert_eq!(pod.container("portcullis")["startupProbe"]["httpGet"]["path"], "/readyz");

    let upstream = Upstream::start(ANY_PORT).await.unwrap();
    let config = fs::read_to_string(pod.path("/etc/envoy/envoy.yaml")).unwrap();
    let ports = [("8000", "0".to_owned()), ("9901", "0".to_owned()), ("8080", upstream.address().port().to_string())];
    let config = ports.iter().fold(config, |config, (port, new)| {
        config.replace(&format!("port_value: {port} "), &format!("port_value: {new} "))
    });
    let envoy = Envoy::start(&program, &config).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(ask(envoy.address(), get("shop.test", "/health")).await.status, 200);
    assert_eq!(ask(envoy.address(), get("shop.test", "/orders")).await.status, 401);
    assert_eq!(upstream.seen(), 1);
}

#[test]
fn a_pod_runs_with_the_least_that_it_needs_and_is_given_the_time_to_drain() {
    for file in ["portcullis", "sidecar"] {
        let documents = documents(&read(&format!("deploy/kubernetes/{file}.yaml")));
        let spec = &of_kind(&documents, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let pod = Pod::of(&documents);
        for container in pod.containers() {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{container}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
            assert_eq!(context["capabilities"]["drop"][0], "ALL", "{container}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{container}");
        }
        let arguments = pod.arguments("portcullis");
        let delay = arguments.iter().find_map(|argument| argument.strip_prefix("--drain-delay="));
        let delay: u64 = delay.map_or(0, |seconds| seconds.parse().unwrap());
        // What is in flight and the audit lines have 15 s each.
        assert!(spec["terminationGracePeriodSeconds"].as_u64().unwrap() > delay + 30);
    }
}

#[test]
fn no_gateway_lets_a_request_pass_without_an_answer_or_hides_a_header() {
    let file = |name: &str| documents(&read(&format!("deploy/kubernetes/{name}.yaml")));
    let mesh = file("istio-mesh");
    let provider = &mesh[0]["meshConfig"]["extensionProviders"][0]["envoyExtAuthzGrpc"];
    assert_eq!(
        (&provider["failOpen"], &provider["statusOnError"], &provider["timeout"]),
        (&false.into(), &"503".into(), &"0.2s".into())
    );
    let istio = file("istio");
    assert_eq!(istio[0]["spec"]["provider"]["name"], mesh[0]["meshConfig"]["extensionProviders"][0]["name"]);
    assert_eq!(istio[0]["spec"]["rules"], serde_json::json!([{}]));
    let gateway = file("envoy-gateway");
    let asked = &of_kind(&gateway, "SecurityPolicy")["spec"]["extAuth"];
    assert_eq!(
        (&asked["failOpen"], &asked["statusOnError"], &asked["timeout"]),
        (&false.into(), &503.into(), &"200ms".into())
    );
    assert_eq!((asked.get("headersToExtAuth"), asked.get("bodyToExtAuth")), (None, None));
    let contour = file("contour");
    let asked = &of_kind(&contour, "HTTPProxy")["spec"]["virtualhost"]["authorization"];
    assert_eq!((&asked["failOpen"], &asked["responseTimeout"]), (&false.into(), &"200ms".into()));
    let route = file("gateway-api");
    let rules = of_kind(&route, "HTTPRoute")["spec"]["rules"].as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["filters"][0]["type"] == "ExternalAuth"));
    // All ask the Service that the chart makes.
    let service = file("portcullis");
    let service = of_kind(&service, "Service");
    assert_eq!(
        (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"]),
        (&"portcullis".into(), &9000.into())
    );
    assert_eq!(
        (&provider["service"], &provider["port"]),
        (&"portcullis.portcullis.svc.cluster.local".into(), &9000.into())
    );
}
