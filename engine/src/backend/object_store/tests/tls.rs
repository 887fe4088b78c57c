//! A store whose certificate nobody vouches for.

use super::{NAME, address, settings};
use crate::backend::open;
use crate::backend::testing::s3::S3Server;
use crate::error::ErrorKind;
use crate::runtime::{Executor, SystemExecutor};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;

/// Signed by itself, for 127.0.0.1, made for this test.
const CERTIFICATE: &[u8] = b"\
-----BEGIN CERTIFICATE-----\n\
MIIBkDCCATagAwIBAgIUD4x3LvN0LvaqQLxZjp8wbyc3CuswCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJMTI3LjAuMC4xMCAXDTI2MTEyOTA0NTgyM1oYDzIxMjYxMTA1\n\
MDQ1ODIzWjAUMRIwEAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAATQPy98i0pHBIxYMj0+gvs75SsVthwt0Yzw1KaKo/2gIzuMur7Pl7+N\n\
zvgJ1md70gb0dRBZv8vqwjXFBb907jlVo2QwYjAdBgNVHQ4EFgQUZR7AZsU1xzjT\n\
l6gsc9ftwnDojwQwHwYDVR0jBBgwFoAUZR7AZsU1xzjTl6gsc9ftwnDojwQwDwYD\n\
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0gAMEUC\n\
IDQpSiPZ1Rea33TgooUCLKPPsdz9FSxVsjmHX+LXo29hAiEA4dWfttkqaPqEriNf\n\
Ua0b9BQpDj0pQYOLLBqU9LPYdTI=\n\
-----END CERTIFICATE-----\n";
const KEY: &[u8] = b"\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4QnR9jcYTsU9jBnc\n\
jOig/viOvltkRtJPPOLIHPaBFjOhRANCAATQPy98i0pHBIxYMj0+gvs75SsVthwt\n\
0Yzw1KaKo/2gIzuMur7Pl7+NzvgJ1md70gb0dRBZv8vqwjXFBb907jlV\n\
-----END PRIVATE KEY-----\n";

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_with_a_way_out() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let config = Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        // Once: a client that tries again finds nobody.
        let (stream, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        assert!(stream.read(&mut [0; 64]).is_err(), "the client goes no further");
    };
    SystemExecutor::new(1).spawn("tls-server", Box::new(serve)).unwrap();
    let mut settings = settings(&S3Server::start());
    settings.options[0].1 = format!("https://127.0.0.1:{port}");
    let error = open(&address("p"), &settings).unwrap().size(&NAME()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("not to be trusted") && error.to_string().contains("SSL_CERT_FILE"), "{error}");
}
