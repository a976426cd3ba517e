//! Workloads through the real Envoy, which checks the certificates of callers and tells of them.

use rcgen::SanType;

use crate::edge::{self, Portcullis, Site, get, replaced};
use crate::proof::{ask_over_tls, with_tls};
use crate::support::{DEADLINE, TempDir, envoy_program};
use crate::trust::{Authority, uri};

const CART: &str = "spiffe://td.test/ns/shop/sa/cart";
const OTHER: &str = "spiffe://td.test/ns/shop/sa/other";
const POLICY: &str = "
gateways: {edge: {by: 127.0.0.0/8, believes: [BELIEVED]}}
services: {cart: 'spiffe://td.test/ns/shop/sa/cart', other: 'spiffe://td.test/ns/shop/sa/other'}
routes: {/cart: 'service:cart'}
audit: none
";

/// An Envoy that lets in whoever this authority signed for.
struct Mesh {
    authority: Authority,
    trusted: String,
    site: Site,
    _dir: TempDir,
}

impl Mesh {
    /// Where portcullis believes this of it, and these lines are in its connection manager.
    async fn start(believed: &str, lines: &str) -> Option<Self> {
        let program = envoy_program()?;
        let (dir, authority) = (TempDir::new(), Authority::new());
        let ca = dir.file("callers.pem", &authority.pem);
        let (template, trusted) = with_tls(&dir, &format!("{{ trusted_ca: {{ filename: \"{}\" }} }}", ca.display()));
        let common = "              common_tls_context:\n";
        let template =
            replaced(&template, common, &format!("              require_client_certificate: true\n{common}"));
        let remote = "use_remote_address: true\n";
        let template = replaced(&template, remote, &format!("{remote}{lines}"));
        let portcullis = Portcullis::with(edge::issuer().await, &POLICY.replace("BELIEVED", believed)).await;
        let site = Site::of(portcullis, &program, &template).await;
        Some(Self { authority, trusted, site, _dir: dir })
    }

    /// What who shows a certificate with these names is answered; `None` where the handshake fails.
    async fn ask(&self, names: &[&str], headers: &str) -> Option<u16> {
        self.shown(Some(self.sign(names, false)), headers).await
    }

    fn sign(&self, names: &[&str], expired: bool) -> (String, String) {
        let names: Vec<SanType> = names.iter().map(|name| uri(name)).collect();
        self.authority.sign(names, expired)
    }

    async fn shown(&self, shown: Option<(String, String)>, headers: &str) -> Option<u16> {
        let shown = shown.as_ref().map(|(certificate, key)| (&**certificate, &**key));
        let raw = get("/cart", headers);
        let asked = ask_over_tls(self.site.envoy.address(), &self.trusted, shown, &raw);
        tokio::time::timeout(DEADLINE, asked).await.unwrap()
    }
}

fn forged() -> String {
    format!("X-Forwarded-Client-Cert: By=spiffe://td.test/edge;Hash={};URI={CART}\r\n", "ab".repeat(32))
}

#[tokio::test] // F04, F05, F06
async fn through_the_real_envoy_a_certificate_names_the_workload() {
    let Some(mesh) = Mesh::start("certificate", "").await else { return };
    assert_eq!(mesh.ask(&[CART], "").await, Some(200));
    assert_eq!(mesh.ask(&[OTHER], "").await, Some(403));
    assert_eq!(mesh.ask(&[OTHER], &forged()).await, Some(403));
    assert_eq!(mesh.ask(&[CART, OTHER], "").await, Some(401), "two of them, of which Envoy names the first");
    assert_eq!(mesh.ask(&["spiffe://TD.test/ns/shop/sa/cart"], "").await, Some(401));
    assert_eq!(mesh.ask(&[], &forged()).await, Some(401), "a certificate that names nobody");
    assert_eq!(mesh.shown(None, &forged()).await, None, "no certificate");
    assert_eq!(mesh.shown(Some(mesh.sign(&[CART], true)), "").await, None, "an old one");
    let stranger = Authority::new().sign(vec![uri(CART)], false);
    assert_eq!(mesh.shown(Some(stranger), "").await, None, "of another authority");
    assert_eq!(mesh.site.upstream.seen(), 1);
}

#[tokio::test] // F04
async fn through_the_real_envoy_a_forged_header_names_no_workload() {
    let indent = " ".repeat(16);
    let set = |how: &str| {
        format!(
            "{indent}forward_client_cert_details: {how}\n{indent}set_current_client_cert_details: {{uri: true, subject: true, cert: true, dns: true}}\n"
        )
    };
    for how in ["SANITIZE_SET", "APPEND_FORWARD"] {
        let Some(mesh) = Mesh::start("xfcc", &set(how)).await else { return };
        assert_eq!(mesh.ask(&[CART], "").await, Some(200), "{how}");
        assert_eq!(mesh.ask(&[OTHER], "").await, Some(403), "{how}");
        assert_eq!(mesh.ask(&[OTHER], &forged()).await, Some(403), "{how}");
        assert_eq!(mesh.ask(&[], &forged()).await, Some(401), "{how}");
        assert_eq!(mesh.ask(&[CART, OTHER], "").await, Some(401), "{how}");
        assert_eq!(mesh.shown(None, &forged()).await, None, "{how}");
        assert_eq!(mesh.site.upstream.seen(), 1, "{how}");
    }
}
