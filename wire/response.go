package wire

import "encoding/binary"

// Parse reads the head of a response from the start of buf, like Request.Parse. All errors have status 502. The
// space before an empty reason may be missing. A 1xx head is a head like any other: the next one follows it.
func (r *Response) Parse(buf []byte, lim Limits) (n int, err error) {
	if r.progress.idle(buf, lim) {
		return 0, nil
	}
	r.Reset()
	n, bad := r.parse(buf[:min(len(buf), lim.HeadBytes)], lim.Fields)
	switch {
	case bad != nil:
		return 0, ofResponse(bad)
	case n == 0 && len(buf) >= lim.HeadBytes:
		return 0, ofResponse(ErrHeadTooLarge)
	case n == 0:
		r.progress.scanned = len(buf)
	}
	return n, nil
}

func (r *Response) parse(buf []byte, maxFields int) (n int, err *Error) {
	i, err := r.parseLine(buf)
	if i == 0 || err != nil {
		r.progress.inLine = true
		return 0, err
	}
	r.Fields, n, err = parseFields(buf, i, r.Fields, maxFields)
	if n == 0 || err != nil {
		return 0, err
	}
	r.Raw = buf[:n]
	return n, r.understand()
}

// parseLine reads the status line. next is behind it, 0 when more bytes are needed.
func (r *Response) parseLine(buf []byte) (next int, err *Error) {
	const status = len("HTTP/1.1 ")
	i := textEnd(buf, 0)
	if i == len(buf) {
		return 0, nil
	}
	if ok, bad := crlf(buf, i, ErrBadStatusLine); !ok {
		return 0, bad
	}
	line := buf[:i]
	if len(line) < status+3 || line[8] != ' ' || len(line) > status+3 && line[status+3] != ' ' {
		return 0, ErrBadStatusLine
	}
	switch binary.LittleEndian.Uint64(line) {
	case version11:
		r.Minor = 1
	case version10:
	default:
		if isVersion(line[:8]) {
			return 0, ErrVersion
		}
		return 0, ErrBadStatusLine
	}
	for _, c := range line[status : status+3] {
		if octets[c]&inDigit == 0 {
			return 0, ErrBadStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 {
		return 0, ErrBadStatusLine
	}
	r.Reason = line[min(status+4, len(line)):]
	return i + 2, nil
}

// understand fills what the fields say.
func (r *Response) understand() *Error {
	m := framing{length: -1}
	for i := range r.Fields {
		switch f := &r.Fields[i]; f.ID {
		case ContentLength, TransferEncoding, Connection, Upgrade:
			if err := m.frame(f); err != nil {
				return err
			}
		}
	}
	r.ContentLength, r.Chunked, r.named = m.length, m.chunked, m.named
	r.Close, r.Upgrade = m.closes(r.Minor), m.upgrades(r.Minor)
	if r.Status < 200 && (m.chunked || m.length >= 0) {
		// RFC 9112 §6.1, RFC 9110 §8.6: never sent; a peer that means it would be read out of step.
		return ErrBadLength
	}
	if r.Status == 204 && (m.chunked || m.length > 0) {
		r.Close = true // the same, but common with length 0; what follows the head is not read as a response
	}
	return m.check(r.Minor)
}

// BodyLength says where the body of the response to a request with this method ends (RFC 9112 §6.3): after n
// bytes, 0 for none; or, with n -1, where its chunked coding ends, or where the connection does. The
// answer 2xx to CONNECT has no body but a tunnel until the connection ends. 101 has none either.
func (r *Response) BodyLength(method []byte) (n int64, chunked, untilClose bool) {
	switch {
	case r.Status < 200, r.Status == 204, r.Status == 304, string(method) == "HEAD":
		return 0, false, false
	case r.Status < 300 && string(method) == "CONNECT":
		return -1, false, true
	case r.Chunked:
		return -1, true, false
	case r.ContentLength >= 0:
		return r.ContentLength, false, false
	}
	return -1, false, true
}
