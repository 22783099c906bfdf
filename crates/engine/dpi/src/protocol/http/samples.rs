//! Conversations in HTTP, RTSP and SIP.

use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

pub(crate) fn samples() -> Vec<Sample> {
    let body = vec![b'z'; 5000];
    let length =
        [b"HTTP/1.1 200 OK\r\nServer: nginx/1.25\r\nContent-Length: 5000\r\n\r\n".as_slice(), &body].concat();
    vec![
        (
            "HTTP by length",
            80,
            flight([
                (Client, b"GET /a?x=1 HTTP/1.1\r\nHost: one.example\r\nUser-Agent: curl/8\r\n\r\n"),
                (Server, &length),
                (Client, b"POST /b HTTP/1.1\r\nHost: one.example\r\nContent-Length: 3\r\n\r\nabcHEAD /c HTTP/1.1\r\nHost: x\r\n\r\n"),
                (Server, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
            ]),
        ),
        (
            "HTTP in chunks",
            8080,
            flight([
                (Client, b"POST /upload HTTP/1.1\r\nHost: two.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nTrailer: t\r\n\r\n"),
                (Server, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n"),
                (Client, b"GET /next HTTP/1.1\r\nHost: two.example\r\n\r\n"),
                (Server, b"HTTP/1.0 200 OK\r\n\r\nto the end of the stream"),
            ]),
        ),
        (
            "HTTP smuggled",
            80,
            flight([
                (Client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n"),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ]),
        ),
        (
            "HTTP with a form",
            80,
            flight([
                (Client, &[b"POST /f HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9010\r\n\r\nq=1+or+1%3D1&".as_slice(), &[b'x'; 8997], b"GET /g HTTP/1.1\r\n\r\n"].concat()),
                (Server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            ]),
        ),
        (
            "RTSP",
            554,
            flight([
                (Client, b"OPTIONS rtsp://cam.example/1 RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
                (Server, b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n$\x00\x00\x04abcdRTSP/1.0 200 OK\r\n\r\n"),
            ]),
        ),
        (
            "HTTP through a proxy",
            3128,
            flight([
                (Client, b"CONNECT db.example:443 HTTP/1.1\r\nHost: db.example:443\r\n\r\n"),
                (Server, b"HTTP/1.1 200 Connection established\r\n\r\n"),
                (Client, &crate::protocol::tls::samples::client_hello()),
                (Server, &crate::protocol::tls::samples::server_hello()),
            ]),
        ),
        (
            "SIP",
            5060,
            flight([
                (Client, b"REGISTER sip:sip.example SIP/2.0\r\nContent-Length: 0\r\n\r\n"),
                (Server, b"SIP/2.0 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
            ]),
        ),
    ]
}
