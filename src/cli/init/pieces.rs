//! What `deploy/` ships for each gateway.

use clap::ValueEnum;

use super::fill::Addresses;

/// A gateway that there are files for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum For {
    /// Envoy, by gRPC
    Envoy,
    /// Envoy, by HTTP, where gRPC cannot pass
    EnvoyHttp,
    /// Istio's ingress gateway
    Istio,
    /// Envoy Gateway
    EnvoyGateway,
    /// Contour
    Contour,
    /// Kong Gateway 3
    Kong,
    /// nginx, OpenResty
    Nginx,
    /// Traefik
    Traefik,
    /// Caddy
    Caddy,
    /// HAProxy
    Haproxy,
}

/// One file.
pub(super) struct Piece {
    pub(super) name: &'static str,
    /// What a comment begins with in it.
    pub(super) comment: &'static str,
    pub(super) text: &'static str,
}

macro_rules! piece {
    ($name:literal, $comment:literal, $path:literal) => {
        Piece { name: $name, comment: $comment, text: include_str!(concat!("../../../deploy/", $path)) }
    };
}

const ENVOY: &[Piece] = &[piece!("envoy.yaml", "#", "envoy/envoy.yaml")];
const ENVOY_HTTP: &[Piece] = &[piece!("envoy.yaml", "#", "envoy/http-service.yaml")];
const ISTIO: &[Piece] =
    &[piece!("istio-mesh.yaml", "#", "kubernetes/istio-mesh.yaml"), piece!("istio.yaml", "#", "kubernetes/istio.yaml")];
const ENVOY_GATEWAY: &[Piece] = &[piece!("envoy-gateway.yaml", "#", "kubernetes/envoy-gateway.yaml")];
const CONTOUR: &[Piece] = &[piece!("contour.yaml", "#", "kubernetes/contour.yaml")];
const NGINX: &[Piece] = &[piece!("portcullis.conf", "#", "nginx/portcullis.conf")];
const CADDY: &[Piece] = &[piece!("Caddyfile", "#", "caddy/Caddyfile")];
const HAPROXY: &[Piece] =
    &[piece!("haproxy.cfg", "#", "haproxy/haproxy.cfg"), piece!("portcullis.lua", "--", "haproxy/portcullis.lua")];
const TRAEFIK: &[Piece] =
    &[piece!("traefik.yaml", "#", "traefik/traefik.yaml"), piece!("dynamic.yaml", "#", "traefik/dynamic.yaml")];
const KONG: &[Piece] = &[
    piece!("kong.yaml", "#", "kong/kong.yaml"),
    piece!("kong-plugin-portcullis-0.1.0-1.rockspec", "--", "kong/kong-plugin-portcullis-0.1.0-1.rockspec"),
    piece!("kong/plugins/portcullis/address.lua", "--", "kong/kong/plugins/portcullis/address.lua"),
    piece!("kong/plugins/portcullis/answer.lua", "--", "kong/kong/plugins/portcullis/answer.lua"),
    piece!("kong/plugins/portcullis/call.lua", "--", "kong/kong/plugins/portcullis/call.lua"),
    piece!("kong/plugins/portcullis/grant.lua", "--", "kong/kong/plugins/portcullis/grant.lua"),
    piece!("kong/plugins/portcullis/handler.lua", "--", "kong/kong/plugins/portcullis/handler.lua"),
    piece!("kong/plugins/portcullis/memory.lua", "--", "kong/kong/plugins/portcullis/memory.lua"),
    piece!("kong/plugins/portcullis/question.lua", "--", "kong/kong/plugins/portcullis/question.lua"),
    piece!("kong/plugins/portcullis/refusal.lua", "--", "kong/kong/plugins/portcullis/refusal.lua"),
    piece!("kong/plugins/portcullis/schema.lua", "--", "kong/kong/plugins/portcullis/schema.lua"),
];

impl For {
    /// Its files, in the order of their reading.
    pub(super) const fn pieces(self) -> &'static [Piece] {
        match self {
            Self::Envoy => ENVOY,
            Self::EnvoyHttp => ENVOY_HTTP,
            Self::Istio => ISTIO,
            Self::EnvoyGateway => ENVOY_GATEWAY,
            Self::Contour => CONTOUR,
            Self::Kong => KONG,
            Self::Nginx => NGINX,
            Self::Traefik => TRAEFIK,
            Self::Caddy => CADDY,
            Self::Haproxy => HAPROXY,
        }
    }

    /// Refuses an address that its files have no place for.
    pub(super) fn takes(self, addresses: &Addresses) -> Result<(), String> {
        if self == Self::Kong && addresses.listen.is_some() {
            return Err("Kong listens where KONG_PROXY_LISTEN says, which is in no file: leave --listen out".to_owned());
        }
        if matches!(self, Self::Istio | Self::EnvoyGateway | Self::Contour) {
            if addresses.listen.is_some() {
                return Err("what the gateway listens on is its Service's to say: leave --listen out".to_owned());
            }
            let outside =
                [&addresses.portcullis, &addresses.upstream].into_iter().flatten().any(|at| at.service().is_none());
            let why = "in a cluster an address is SERVICE.NAMESPACE:PORT, such as portcullis.portcullis:9000";
            return if outside { Err(why.to_owned()) } else { Ok(()) };
        }
        let named = addresses.listen.as_ref().is_some_and(|listen| !listen.is_ip());
        if named { Err("--listen is an IP address and a port of this machine".to_owned()) } else { Ok(()) }
    }

    /// What to do with its files.
    pub(super) const fn next(self) -> &'static str {
        match self {
            Self::Envoy => {
                "Next: envoy -c envoy.yaml. In the policy: listen: {grpc: 127.0.0.1:9000}, which is the default. docs/envoy.md\n"
            }
            Self::EnvoyHttp => {
                "Next: envoy -c envoy.yaml. In the policy what the file says at its beginning. docs/gateways.md\n"
            }
            Self::Istio => {
                "Next: helm upgrade istiod istio/istiod -n istio-system --reuse-values -f istio-mesh.yaml; kubectl apply -f \
                 istio.yaml. docs/kubernetes.md\n"
            }
            Self::EnvoyGateway => "Next: kubectl apply -f envoy-gateway.yaml. docs/kubernetes.md\n",
            Self::Contour => "Next: kubectl apply -f contour.yaml. docs/kubernetes.md\n",
            Self::Kong => {
                "Next: --out FOLDER writes the plugin; kong.yaml says how Kong finds it. In the policy: listen: {http: \
                 127.0.0.1:9002}, gateways: {kong: {by: 127.0.0.1/32, dialect: json}}\n"
            }
            Self::Nginx => {
                "Next: /etc/nginx/conf.d/portcullis.conf. In the policy what the file says at its beginning\n"
            }
            Self::Traefik => {
                "Next: /etc/traefik/traefik.yaml and /etc/traefik/dynamic.yaml. In the policy what dynamic.yaml says at its \
                 beginning\n"
            }
            Self::Caddy => "Next: /etc/caddy/Caddyfile. In the policy what the file says at its beginning\n",
            Self::Haproxy => {
                "Next: /etc/haproxy/haproxy.cfg and /etc/haproxy/portcullis.lua. In the policy what haproxy.cfg says at its \
                 beginning\n"
            }
        }
    }
}
