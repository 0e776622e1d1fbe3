package wire

import (
	"bytes"
	"io"
)

// maxSizeLine is the length of the longest chunk-size line taken, in octets, with its line end. Signed uploads to
// object stores send extensions of 85; net/http takes 4,096.
const maxSizeLine = 1024

// maxExtensions is how many octets of chunk extensions a body may have beyond twice its data. Without it a
// client could make a body of one octet cost any number of them. net/http allows 16 KiB in the same manner.
const maxExtensions = 4096

// Chunks decodes one body in chunked coding at a time (RFC 9112 §7.1), without copying it. Reset it before each body.
type Chunks struct {
	lim      Limits
	state    chunkState
	left     int64 // data octets of the chunk that are still to come
	excess   int64 // see maxExtensions
	trailing progress
	fields   []Field
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd // the line end behind data
	chunkTrailer
	chunksDone
)

// Reset makes c ready for a body whose trailer is bounded by lim.
func (c *Chunks) Reset(lim Limits) { *c = Chunks{lim: lim, fields: c.fields[:0]} }

// Next decodes from the start of in and says how many octets it consumed. data is the part of the body that it
// found, a piece of in; it may be empty though n is not 0, and then Next is to be called with the rest. n of 0
// without an error: more bytes are needed behind those of in. A line or trailer that is not complete stays unconsumed, so
// that in must have room for 1 KiB and for lim.HeadBytes. io.EOF comes, with n and no data, when the
// last chunk and the trailer were consumed. Other errors are of type *Error, with the status that answers a request, come
// without data, and come again on every further call.
func (c *Chunks) Next(in []byte) (data []byte, n int, err error) {
	for {
		rest := in[n:]
		used := 0
		var bad *Error
		switch c.state {
		case chunkSize:
			used, bad = c.size(rest)
		case chunkData:
			return c.data(in, n)
		case chunkEnd:
			used, bad = c.end(rest)
		case chunkTrailer:
			used, bad = c.trailer(rest)
		case chunksDone:
			return nil, n, io.EOF
		}
		if bad != nil {
			return nil, n, bad
		}
		if used == 0 {
			return nil, n, nil
		}
		n += used
	}
}

// data consumes the data at n, and the line end behind it when it is there and right.
func (c *Chunks) data(in []byte, n int) (data []byte, next int, err error) {
	used := int(min(c.left, int64(len(in)-n)))
	data = in[n : n+used]
	n += used
	if c.left -= int64(used); c.left == 0 {
		c.state = chunkEnd
		end, _ := c.end(in[n:]) // an error comes again, without data
		n += end
	}
	return data, n, nil
}

// end consumes the line end behind the data of a chunk.
func (c *Chunks) end(in []byte) (n int, err *Error) {
	if len(in) > 0 && in[0] != '\r' || len(in) > 1 && in[1] != '\n' {
		return 0, ErrBadChunk
	}
	if len(in) < 2 {
		return 0, nil
	}
	c.state = chunkSize
	return 2, nil
}

// size consumes the line that opens a chunk.
func (c *Chunks) size(in []byte) (n int, err *Error) {
	i, size := 0, uint64(0)
	for ; i < len(in) && octets[in[i]]&inHex != 0; i++ {
		if i == 16 {
			return 0, ErrBadChunk
		}
		size = size<<4 | uint64(unhex(in[i]))
	}
	if i == len(in) {
		return 0, nil
	}
	if i == 0 || size > 1<<63-1 {
		return 0, ErrBadChunk
	}
	digits := i
	if in[i] == ';' {
		end := bytes.IndexByte(in[:min(len(in), maxSizeLine)], '\r')
		switch {
		case end < 0 && len(in) >= maxSizeLine:
			return 0, ErrChunkOverhead
		case end < 0:
			return 0, nil
		case !validExtensions(in[i:end]):
			return 0, ErrBadChunk
		}
		i = end
	}
	if ok, bad := crlf(in, i, ErrBadChunk); !ok {
		return 0, bad
	}
	c.excess = max(0, c.excess+int64(i-digits)-2*max(0, int64(min(size, maxExtensions))-1))
	if c.excess > maxExtensions {
		return 0, ErrChunkOverhead
	}
	c.left, c.state = int64(size), chunkData
	if size == 0 {
		c.state = chunkTrailer
	}
	return i + 2, nil
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// validExtensions reports whether b is any number of ;name, ;name=token and ;name="quoted". The white space
// that RFC 9112 §7.1.1 calls bad is refused.
func validExtensions(b []byte) bool {
	for len(b) > 0 {
		if b[0] != ';' {
			return false
		}
		name := tokenLength(b[1:])
		if name == 0 {
			return false
		}
		if b = b[1+name:]; len(b) == 0 || b[0] != '=' {
			continue
		}
		value := tokenLength(b[1:])
		if value == 0 {
			value = quotedLength(b[1:])
		}
		if value == 0 {
			return false
		}
		b = b[1+value:]
	}
	return true
}

func tokenLength(b []byte) (n int) {
	for n < len(b) && octets[b[n]]&inToken != 0 {
		n++
	}
	return n
}

// quotedLength is the length of the quoted string that b begins with, 0 for none (RFC 9110 §5.6.4).
func quotedLength(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	end := textEnd(b, 0)
	for i := 1; i < end; i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return 0
}

// trailer consumes the trailer once all of it is there.
func (c *Chunks) trailer(in []byte) (n int, err *Error) {
	if c.trailing.idle(in, c.lim) {
		return 0, nil
	}
	c.fields, n, err = parseFields(in[:min(len(in), c.lim.HeadBytes)], 0, c.fields[:0], c.lim.Fields)
	switch {
	case err != nil:
		return 0, err
	case n == 0 && len(in) >= c.lim.HeadBytes:
		return 0, ErrHeadTooLarge
	case n == 0:
		c.trailing = progress{scanned: len(in), inLine: bytes.IndexByte(in, '\n') < 0}
		return 0, nil
	}
	kept := c.fields[:0]
	for _, f := range c.fields {
		if mayTrail(&f) {
			kept = append(kept, f)
		}
	}
	c.fields, c.state = kept, chunksDone
	return n, nil
}

// Trailers are the trailer fields, once Next returned io.EOF. They point into the buffer that Next was given. Fields
// that frame, route or authorise, which no one may take from a trailer (RFC 9110 §6.5.1), are dropped.
func (c *Chunks) Trailers() []Field {
	if c.state != chunksDone {
		return nil
	}
	return c.fields
}

// noTrailers are names that are not known fields and never trail.
var noTrailers = [...]string{
	"cache-control", "content-encoding", "content-range", "max-forwards", "age", "expires", "vary", "range",
	"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "pragma",
	"proxy-authenticate", "proxy-authorization", "www-authenticate", "authentication-info",
}

func mayTrail(f *Field) bool {
	switch f.ID {
	case Accept, Server, UserAgent, Referer, Via, GRPCStatus, GRPCPushback, EvenkeelNoRetry:
		return true
	case Other:
		for _, name := range noTrailers {
			if len(name) == len(f.Name) && EqualFold(f.Name, name) {
				return false
			}
		}
		return true
	}
	return false
}
