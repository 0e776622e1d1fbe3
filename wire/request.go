package wire

import (
	"bytes"
	"encoding/binary"
)

// maxMethod is the length of the longest method taken, in octets. The longest registered is UPDATEREDIRECTREF (17).
const maxMethod = 32

// Parse reads the head of a request from the start of buf, strictly after RFC 9112. n is the length of the head
// with its last empty line; 0 without an error: more bytes are needed, and Parse is to be called again with the
// same bytes and more behind them, wherever they lie by then. It never asks for more than lim.HeadBytes bytes. One empty
// line before the request line is skipped and counts towards n and the limit, but not towards Raw (§2.2).
// Errors are of type *Error; r is of no use then. Everything in r points into buf.
//
// Where RFC 9112 leaves a choice, Parse refuses: repeated Content-Length even when equal, Transfer-Encoding in
// HTTP/1.0, an empty host or port, user names in authorities, targets with octets above 0x7e, and an absolute-form
// target whose authority is not, octet for octet but for case, that of the Host field.
func (r *Request) Parse(buf []byte, lim Limits) (n int, err error) {
	if r.progress.idle(buf, lim) {
		return 0, nil
	}
	r.Reset()
	head := buf[:min(len(buf), lim.HeadBytes)]
	n, bad := r.parse(head, lim.Fields)
	switch {
	case bad != nil:
		return 0, bad
	case n == 0 && len(buf) < lim.HeadBytes:
		r.progress.scanned = len(buf)
	case n == 0 && len(head) > 2 && bytes.IndexByte(head[2:], '\n') < 0:
		return 0, ErrURITooLong
	case n == 0:
		return 0, ErrHeadTooLarge
	}
	return n, nil
}

func (r *Request) parse(buf []byte, maxFields int) (n int, err *Error) {
	start := 0
	if len(buf) > 1 && buf[0] == '\r' && buf[1] == '\n' {
		start = 2
	} else if len(buf) > 0 && buf[0] == '\r' {
		if len(buf) > 1 {
			return 0, ErrBareCR
		}
		r.progress.inLine = true
		return 0, nil
	}
	i, err := r.parseLine(buf, start)
	if i == 0 || err != nil {
		r.progress.inLine = true
		return 0, err
	}
	r.Fields, n, err = parseFields(buf, i, r.Fields, maxFields)
	if n == 0 || err != nil {
		return 0, err
	}
	r.Raw = buf[start:n]
	return n, r.understand()
}

// parseLine reads the request line at i. next is behind it, 0 when more bytes are needed.
func (r *Request) parseLine(buf []byte, i int) (next int, err *Error) {
	start := i
	for i < len(buf) && octets[buf[i]]&inToken != 0 {
		i++
	}
	if i-start > maxMethod {
		return 0, ErrBadRequestLine
	}
	if i == len(buf) {
		return 0, nil
	}
	if buf[i] != ' ' || i == start {
		return 0, badLine(buf[i])
	}
	r.Method = buf[start:i]
	i++
	start = i
	for i < len(buf) && octets[buf[i]]&inTarget != 0 {
		i++
	}
	if i == len(buf) {
		return 0, nil
	}
	if buf[i] != ' ' {
		if buf[i] != '\r' && buf[i] != '\n' {
			return 0, ErrBadTarget
		}
		return 0, badLine(buf[i])
	}
	if i == start {
		return 0, ErrBadRequestLine
	}
	r.Target = buf[start:i]
	return r.parseVersion(buf, i+1)
}

// badLine is the error of a request line that c ends too early.
func badLine(c byte) *Error {
	if c == '\n' {
		return ErrBareLF
	}
	return ErrBadRequestLine
}

// The versions as the words that parsers compare.
const (
	version11 = 'H' | 'T'<<8 | 'T'<<16 | 'P'<<24 | '/'<<32 | '1'<<40 | '.'<<48 | '1'<<56
	version10 = version11 - 1<<56
)

func (r *Request) parseVersion(buf []byte, i int) (next int, err *Error) {
	if i+10 <= len(buf) && buf[i+8] == '\r' && buf[i+9] == '\n' {
		switch binary.LittleEndian.Uint64(buf[i:]) {
		case version11:
			r.Minor = 1
			return i + 10, nil
		case version10:
			return i + 10, nil
		}
	}
	j := bytes.IndexByte(buf[i:], '\n')
	if j < 0 {
		return 0, nil
	}
	line := buf[i : i+j]
	switch {
	case len(line) == 0 || line[len(line)-1] != '\r':
		return 0, ErrBareLF
	case len(line) == 9 && isVersion(line[:8]):
		return 0, ErrVersion
	}
	return 0, ErrBadRequestLine
}

// isVersion reports whether b is of the form of a version, whichever it is.
func isVersion(b []byte) bool {
	return len(b) == 8 && string(b[:5]) == "HTTP/" && octets[b[5]]&inDigit != 0 && b[6] == '.' && octets[b[7]]&inDigit != 0
}

// understand fills what the fields say.
func (r *Request) understand() *Error {
	m := framing{length: -1}
	hosts := 0
	for i := range r.Fields {
		f := &r.Fields[i]
		switch f.ID {
		case Host:
			if hosts++; hosts > 1 {
				return ErrDuplicateHost
			}
			r.Host = f.Value
		case ContentLength, TransferEncoding, Connection, Upgrade:
			if err := m.frame(f); err != nil {
				return err
			}
		case Expect:
			if !EqualFold(f.Value, "100-continue") {
				return ErrExpectation
			}
			r.Expect100 = r.Minor == 1 // RFC 9110 §10.1.1: ignored from HTTP/1.0
		}
	}
	if hosts == 0 && r.Minor == 1 {
		return ErrNoHost
	}
	if hosts == 1 && !validAuthority(r.Host, false) {
		return ErrBadHost
	}
	if err := r.locate(); err != nil {
		return err
	}
	r.ContentLength, r.Chunked, r.named = m.length, m.chunked, m.named
	r.Close, r.Upgrade = m.closes(r.Minor), m.upgrades(r.Minor)
	return m.check(r.Minor)
}

// IsIdempotent reports whether the method may be sent twice without harm (RFC 9110 §9.2.2).
func (r *Request) IsIdempotent() bool {
	switch string(r.Method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
