package wire

import "bytes"

// progress is how far an unfinished head was looked at, so that one that comes octet by octet costs linear work.
type progress struct {
	scanned int  // octets in which there is no end; 0: not looked at
	inLine  bool // the first line is not complete yet
}

// idle reports whether parsing again is pointless: since the last time neither the first line nor the head came to
// its end, no line end came that refuses it, and the limit is not reached.
func (p *progress) idle(buf []byte, lim Limits) bool {
	if p.scanned == 0 || p.scanned > len(buf) || len(buf) >= lim.HeadBytes {
		return false
	}
	for i := p.scanned; ; i++ {
		j := bytes.IndexByte(buf[i:], '\n')
		if j < 0 {
			p.scanned = len(buf)
			return true
		}
		if i += j; p.inLine || i == 0 || buf[i-1] != '\r' || i >= 3 && buf[i-2] == '\n' {
			return false
		}
	}
}

// parseFields appends the fields from buf[i:] to dst. next is behind the empty line that ends them, 0 when
// more bytes are needed.
func parseFields(buf []byte, i int, dst []Field, max int) (fields []Field, next int, err *Error) {
	for i < len(buf) {
		start := i
		for i < len(buf) && octets[buf[i]]&inToken != 0 {
			i++
		}
		if i == len(buf) {
			break
		}
		if buf[i] != ':' || i == start {
			if buf[i] != '\r' || i != start {
				return dst, 0, badName(buf, start, i)
			}
			if i+1 == len(buf) {
				break
			}
			if buf[i+1] != '\n' {
				return dst, 0, ErrBareCR
			}
			return dst, i + 2, nil
		}
		name := buf[start:i]
		for i++; i < len(buf) && (buf[i] == ' ' || buf[i] == '\t'); {
			i++
		}
		start = i
		i = textEnd(buf, i)
		if i == len(buf) {
			break
		}
		end := i
		for end > start && (buf[end-1] == ' ' || buf[end-1] == '\t') {
			end--
		}
		if ok, bad := crlf(buf, i, ErrBadField); bad != nil {
			return dst, 0, bad
		} else if !ok {
			break
		}
		if len(dst) == max {
			return dst, 0, ErrTooManyFields
		}
		dst = append(dst, Field{Name: name, Value: buf[start:end], ID: FieldID(name)})
		i += 2
	}
	return dst, 0, nil
}

// badName is why the name from start to the octet at i is none.
func badName(buf []byte, start, i int) *Error {
	switch c := buf[i]; {
	case c == '\n':
		return ErrBareLF
	case i == start && (c == ' ' || c == '\t'):
		return ErrObsFold
	}
	return ErrBadField
}

// crlf reports whether a line ends at i, where an octet stands that is no text. false and nil: more bytes are
// needed. An octet that ends no line is the error other.
func crlf(buf []byte, i int, other *Error) (ok bool, err *Error) {
	switch {
	case buf[i] == '\n':
		return false, ErrBareLF
	case buf[i] != '\r':
		return false, other
	case i+1 == len(buf):
		return false, nil
	case buf[i+1] != '\n':
		return false, ErrBareCR
	}
	return true, nil
}

// framing is what the fields of a head say about the message and its connection.
type framing struct {
	length           int64
	chunked          bool
	close, keepAlive bool
	upgrade          bool // Connection names upgrade
	named            bool // Connection names other options
	protocol         []byte
}

// frame takes field f into account.
func (m *framing) frame(f *Field) *Error {
	switch f.ID {
	case ContentLength:
		n, ok := parseLength(f.Value)
		if !ok || m.length >= 0 {
			return ErrBadLength
		}
		m.length = n
	case TransferEncoding:
		if m.chunked {
			return ErrBadTransferEncoding
		}
		if !EqualFold(f.Value, "chunked") {
			return badCoding(f.Value)
		}
		m.chunked = true
	case Connection:
		m.options(f.Value)
	case Upgrade:
		if m.protocol == nil {
			m.protocol = f.Value
		}
	}
	return nil
}

// check looks at the whole, once all fields were framed.
func (m *framing) check(minor int) *Error {
	if !m.chunked {
		return nil
	}
	if m.length >= 0 {
		return ErrLengthAndChunked
	}
	if minor == 0 { // RFC 9112 §6.1: faulty framing, even with chunked alone
		return ErrBadTransferEncoding
	}
	return nil
}

// closes reports whether the connection ends after the message (RFC 9112 §9.3).
func (m *framing) closes(minor int) bool { return m.close || minor == 0 && !m.keepAlive }

// upgrades is the protocol to change to, nil for none.
func (m *framing) upgrades(minor int) []byte {
	if !m.upgrade || minor == 0 || len(m.protocol) == 0 {
		return nil
	}
	return m.protocol
}

func (m *framing) options(list []byte) {
	for more := true; more; {
		var option []byte
		option, list, more = cutList(list)
		switch {
		case len(option) == 0:
		case EqualFold(option, "keep-alive"):
			m.keepAlive = true
		case EqualFold(option, "close"):
			m.close = true
		case EqualFold(option, "upgrade"):
			m.upgrade = true
		default:
			m.named = true
		}
	}
}

// badCoding is why a Transfer-Encoding other than chunked is refused: codings that are only unknown here
// are told apart from lists that break RFC 9112 §6.1, where chunked stands once and last.
func badCoding(list []byte) *Error {
	chunked := false
	for more := true; more; {
		var coding []byte
		coding, list, more = cutList(list)
		if chunked || !ValidFieldName(coding) {
			return ErrBadTransferEncoding
		}
		chunked = EqualFold(coding, "chunked")
	}
	return ErrUnknownCoding
}
