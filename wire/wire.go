// Package wire is HTTP/1.1 on the wire: it parses and writes heads, bodies and chunks, with no sockets and no policy.
package wire

// Preface opens an HTTP/2 connection with prior knowledge (RFC 9113 §3.4). Request.Parse refuses it with
// ErrVersion, so that a listener looks for it before it parses.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Limits bounds what a parser takes. Both must be above zero.
type Limits struct {
	HeadBytes int // bytes of a head or trailer, with its last empty line
	Fields    int // fields of a head or trailer
}

// Field is one header field. The slices point into the buffer that was parsed.
type Field struct {
	Name  []byte // as sent
	Value []byte // without white space around it
	ID    ID     // which known field it is, 0 for others
}

// Request is the head of a request. HTTP/2 front ends fill the same view, with names in lower case.
type Request struct {
	Method []byte
	Target []byte // origin-form after parsing: /path?query, or * ; for CONNECT the authority
	Host   []byte // authority: Host field, or that of an absolute-form target, or :authority
	Minor  int    // 1 for HTTP/1.1, 0 for HTTP/1.0
	Fields []Field

	ContentLength int64  // -1: none given
	Chunked       bool   // Transfer-Encoding: chunked; by HTTP/2: a body comes or may come, and its length was not told
	Close         bool   // the connection ends after this message
	Upgrade       []byte // value of Upgrade when Connection names it, else nil
	Expect100     bool   // the client waits for 100 Continue

	Raw []byte // the whole head as parsed, with the last empty line; nil from HTTP/2

	named    bool // Connection names options besides close, keep-alive and upgrade
	progress progress
}

// Reset empties r for the next head and keeps the capacity of Fields. Parse does it by itself, except that it
// keeps in mind how much of an unfinished head it has seen: call Reset when such a head is given up.
func (r *Request) Reset() { *r = Request{Fields: r.Fields[:0], ContentLength: -1} }

// Response is the head of a response.
type Response struct {
	Status int
	Reason []byte
	Minor  int
	Fields []Field

	ContentLength int64 // -1: none given
	Chunked       bool
	Close         bool
	Upgrade       []byte

	Raw []byte

	named    bool
	progress progress
}

// Reset empties r for the next head, like Request.Reset.
func (r *Response) Reset() { *r = Response{Fields: r.Fields[:0], ContentLength: -1} }
