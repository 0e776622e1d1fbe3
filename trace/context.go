// Package trace is where a request stands in a trace: W3C Trace Context in and out, which requests are recorded, and what is kept of one that is.
package trace

import (
	"encoding/hex"
	"math/rand/v2"
)

// Flags of a context (W3C Trace Context, level 2).
const (
	FlagSampled uint8 = 1 // who sent it records its part
	FlagRandom  uint8 = 2 // the last seven octets of the id are random
)

// Length is how long a traceparent of version 00 is: 00-<32 hex>-<16 hex>-<2 hex>.
const Length = 55

// Context is a place in a trace. The zero value is none.
type Context struct {
	ID    [16]byte // of the trace
	Span  [8]byte  // of the sender's part in it
	Flags uint8
}

// Valid reports whether c is a place.
func (c *Context) Valid() bool { return c.ID != [16]byte{} && c.Span != [8]byte{} }

// Sampled reports whether the sender records its part.
func (c *Context) Sampled() bool { return c.Flags&FlagSampled != 0 }

// Parse reads the value of a traceparent field. Versions above 00 are read as far as they are like 00 (§4.3).
func Parse(v []byte) (c Context, ok bool) {
	if len(v) < Length || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return c, false
	}
	var version, flags [1]byte
	if !unhex(version[:], v[:2]) || !unhex(c.ID[:], v[3:35]) || !unhex(c.Span[:], v[36:52]) || !unhex(flags[:], v[53:55]) {
		return Context{}, false
	}
	if version[0] == 0xff || version[0] == 0 && len(v) != Length || len(v) > Length && v[Length] != '-' {
		return Context{}, false
	}
	c.Flags = flags[0] & (FlagSampled | FlagRandom)
	return c, c.Valid()
}

// unhex reads lower case hexadecimal digits, the only ones allowed.
func unhex(dst, src []byte) bool {
	for i := range dst {
		hi, lo := digit(src[2*i]), digit(src[2*i+1])
		if hi|lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

// digit is the value of one, above 15 for anything else.
func digit(c byte) uint8 {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// Append writes c as the value of a traceparent field.
func (c *Context) Append(b []byte) []byte {
	b = hex.AppendEncode(append(b, "00-"...), c.ID[:])
	b = hex.AppendEncode(append(b, '-'), c.Span[:])
	const digits = "0123456789abcdef"
	return append(b, '-', digits[c.Flags>>4], digits[c.Flags&15])
}

// New is the beginning of a trace. Ids need to differ, not to be secret: the generator is the runtime's, which shares no lock.
func New() (c Context) {
	put(c.ID[:8], rand.Uint64())
	c.Span = NewSpan()
	put(c.ID[8:], random())
	c.Flags = FlagRandom
	return c
}

// NewSpan is the id of another part of a trace.
func NewSpan() (id [8]byte) {
	put(id[:], random())
	return id
}

// random is never 0, which is no id.
func random() uint64 {
	for {
		if n := rand.Uint64(); n != 0 {
			return n
		}
	}
}

func put(b []byte, n uint64) {
	_ = b[7]
	for i := range 8 {
		b[i] = byte(n >> (8 * i))
	}
}
