package wire

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// What an octet may be part of.
const (
	inToken  = 1 << iota // RFC 9110 §5.6.2
	inTarget             // visible ASCII without '#': a request target has no fragment
	inHost               // letters, digits and -._~ : what names and IPv4 addresses are made of
	inHex
	inDigit
)

// octets is the table behind the parsers: one load says what an octet may be part of.
var octets = makeOctets()

func makeOctets() (t [256]uint8) {
	for c := '!'; c <= '~'; c++ {
		t[c] = inTarget
	}
	t['#'] = 0
	mark := func(set string, in uint8) {
		for _, c := range []byte(set) {
			t[c] |= in
		}
	}
	mark("0123456789", inToken|inHost|inHex|inDigit)
	mark("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", inToken|inHost)
	mark("abcdefABCDEF", inHex)
	mark("!#$%&'*+-.^_`|~", inToken)
	mark("-._~", inHost)
	return t
}

// The constants of word-wise scanning: one octet repeated eight times.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// textEnd is the index of the first octet at or after i that cannot stand in a field value: a control
// other than HTAB. It is len(b) when there is none. Eight octets are looked at in one step: below 0x20 or
// 0x7f sets the high bit of the octet, and the lowest such bit is exact.
func textEnd(b []byte, i int) int {
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			del := x ^ 0x7f*ones
			if hit := ((x-0x20*ones)&^x | (del-ones)&^del) & highs; hit != 0 {
				i += bits.TrailingZeros64(hit) >> 3
				if b[i] != '\t' {
					return i
				}
				i++
				continue
			}
			i += 8
		}
		for i < len(b) && (b[i] >= ' ' && b[i] != 0x7f || b[i] == '\t') {
			i++
		}
		return i
	}
}

// ValidFieldName reports whether b is a token.
func ValidFieldName(b []byte) bool {
	for _, c := range b {
		if octets[c]&inToken == 0 {
			return false
		}
	}
	return len(b) > 0
}

// ValidFieldValue reports whether b has no control characters but HTAB, and no white space around it. The
// empty value is valid.
func ValidFieldValue(b []byte) bool {
	return textEnd(b, 0) == len(b) && len(trim(b)) == len(b)
}

// EqualFold reports whether b is s, with ASCII letters of either case.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// HasToken reports whether the comma-separated list value has the member token, in letters of either case.
func HasToken(value []byte, token string) bool {
	for more := true; more; {
		var member []byte
		member, value, more = cutList(value)
		if EqualFold(member, token) {
			return true
		}
	}
	return false
}

// cutList takes the first member, trimmed, off a comma-separated list.
func cutList(list []byte) (member, rest []byte, more bool) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return trim(list[:i]), list[i+1:], true
	}
	return trim(list), nil, false
}

// trim takes optional white space off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// parseLength reads a Content-Length: 1 to 19 digits, at most 2^63-1.
func parseLength(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n <= 1<<63-1
}
