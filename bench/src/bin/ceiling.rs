//! `ceiling ADDRESS CORES`: a tonic server that says yes to every check and does nothing else, on the runtime layout of
//! portcullis: one current-thread runtime a core, and an acceptor that gives each connection to the core with the
//! fewest open. What portcullis adds is the difference to this.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

use portcullis_bench::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use portcullis_bench::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use portcullis_bench::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use portcullis_bench::pb::envoy::service::auth::v3::check_response::HttpResponse;
use portcullis_bench::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse, OkHttpResponse};
use portcullis_bench::pb::google;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Yes;

#[tonic::async_trait]
impl Authorization for Yes {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let header = HeaderValue {
            key: Bytes::from_static(b"x-user-id"),
            value: Bytes::from_static(b"user-1234"),
            raw_value: Bytes::new(),
        };
        let option = HeaderValueOption {
            header: Some(header),
            append: Some(false),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
            keep_empty_value: true,
        };
        Ok(Response::new(CheckResponse {
            status: Some(google::rpc::Status::default()),
            http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
                headers: vec![option],
                ..OkHttpResponse::default()
            })),
            dynamic_metadata: None,
        }))
    }
}

/// A connection that is counted while it is open.
struct Link {
    stream: TcpStream,
    _open: Open,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Link {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

type Handed = (std::net::TcpStream, Open);

struct Core {
    send: mpsc::Sender<Handed>,
    open: Arc<AtomicUsize>,
}

fn core() -> io::Result<Core> {
    let (send, handed) = mpsc::channel::<Handed>(256);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(serve(handed)));
    Ok(Core { send, open: Arc::default() })
}

async fn serve(mut handed: mpsc::Receiver<Handed>) {
    let (ready, links) = mpsc::channel::<io::Result<Link>>(256);
    tokio::spawn(async move {
        while let Some((stream, open)) = handed.recv().await {
            let link = TcpStream::from_std(stream).map(|stream| Link { stream, _open: open });
            if ready.send(link).await.is_err() {
                return;
            }
        }
    });
    let served = Server::builder()
        .max_concurrent_streams(256)
        .http2_max_header_list_size(16 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .add_service(AuthorizationServer::new(Yes))
        .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(links));
    if let Err(error) = served.await {
        eprintln!("ceiling: {error}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("usage: ceiling ADDRESS CORES")?.parse()?;
    let cores: usize = arguments.next().map_or(Ok(1), |count| count.parse())?;
    let cores = (0..cores).map(|_| core()).collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let Some(core) = cores.iter().min_by_key(|core| core.open.load(Ordering::Relaxed)) else { continue };
            core.open.fetch_add(1, Ordering::Relaxed);
            core.send.try_send((stream.into_std()?, Open(Arc::clone(&core.open))))?;
        }
    })
}
