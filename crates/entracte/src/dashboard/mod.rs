//! The dashboard: what is going on, for the team, in a browser. It only looks.
//!
//! Rendered here, without JavaScript; a release under way reloads itself. It listens on the
//! address that is configured and nowhere else; from another machine it is reached by SSH port
//! forwarding.

mod page;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use entracte_release::Target;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::exit::Failure;

/// How long one browser may keep its connection without asking anything.
const IDLE: Duration = Duration::from_secs(30);

/// Serves the dashboard of `target` at `listen` until `stop` is set.
pub fn serve(target: &Target, listen: SocketAddr, stop: &AtomicBool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = Arc::new(target.clone());
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        crate::report::out::log(format!("the dashboard is at http://{}", listener.local_addr()?));
        while !stop.load(Ordering::SeqCst) {
            let accepted =
                tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
            let Ok(Ok((stream, _))) = accepted else { continue };
            let target = Arc::clone(&target);
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let target = Arc::clone(&target);
                    async move { Ok::<_, Infallible>(answer(&target, &request)) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(IDLE)
                    .serve_connection(TokioIo::new(stream), answer);
                // A browser that goes away in the middle is nobody's trouble.
                let _ = connection.await;
            });
        }
        Ok(())
    })
}

fn answer(target: &Target, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let page = match request.method() {
        &Method::GET | &Method::HEAD => page::at(target, path),
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "the dashboard only shows".to_owned())),
    };
    let (status, body) = match page {
        Ok(body) => (StatusCode::OK, body),
        Err((status, message)) => (status, page::error(target, &message)),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let text = |value: &'static str| hyper::header::HeaderValue::from_static(value);
    headers.insert("content-type", text("text/html; charset=utf-8"));
    headers.insert("cache-control", text("no-store"));
    headers.insert("x-content-type-options", text("nosniff"));
    headers
        .insert("content-security-policy", text("default-src 'none'; style-src 'unsafe-inline'"));
    response
}
