package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// Sizes of HTTP/2 as evenkeel speaks it.
const (
	h2FrameHead   = 9        // bytes of a frame head (RFC 9113 §4.1)
	h2FrameMax    = 16 << 10 // largest frame taken and sent: the least that every peer must take (§4.2)
	h2StreamWin   = 256 << 10
	h2FirstWin    = 64 << 10 // of a client's stream until somebody takes its body
	h2ConnWin     = 1 << 20  // also how far the streams of one client grow beyond h2FirstWin, together: so one client makes evenkeel hold 7.25 MiB of 100 bodies at the most
	h2Padding     = 256      // most of a frame that is neither its head nor its payload (§6.1)
	h2DefaultWin  = 65535    // before SETTINGS (§6.9.2)
	h2MaxWin      = 1<<31 - 1
	h2MaxStreamID = 1<<31 - 1
	// h2PendingMax is how many bytes may wait for the socket before bodies wait too: a few writes of the size
	// that a socket buffer takes at once.
	h2PendingMax = 128 << 10
	// h2PendingHard is where control frames and heads that a peer provoked without reading end the connection.
	h2PendingHard = 1 << 20
)

// h2Preface is what a client says first (RFC 9113 §3.4).
const h2Preface = http2.ClientPreface

// h2Frame is one frame in the read buffer. The payload is valid until the next read.
type h2Frame struct {
	typ     http2.FrameType
	flags   http2.Flags
	id      uint32
	payload []byte
}

func (f *h2Frame) has(flag http2.Flags) bool { return f.flags&flag != 0 }

// parseH2Frame takes the first frame of b; n is 0 when it is not all there yet.
func parseH2Frame(b []byte) (f h2Frame, n int, err error) {
	if len(b) < h2FrameHead {
		return f, 0, nil
	}
	size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if size > h2FrameMax {
		return f, 0, &h2Error{http2.ErrCodeFrameSize, closedProtocol}
	}
	if len(b) < h2FrameHead+size {
		return f, 0, nil
	}
	f.typ, f.flags = http2.FrameType(b[3]), http2.Flags(b[4])
	f.id = binary.BigEndian.Uint32(b[5:]) & h2MaxStreamID
	f.payload = b[h2FrameHead : h2FrameHead+size]
	return f, h2FrameHead + size, nil
}

// unpad takes the padding of DATA and HEADERS away.
func (f *h2Frame) unpad() error {
	if !f.has(http2.FlagDataPadded) {
		return nil
	}
	if len(f.payload) == 0 {
		return &h2Error{http2.ErrCodeFrameSize, closedProtocol}
	}
	pad := int(f.payload[0])
	if pad >= len(f.payload) {
		return &h2Error{http2.ErrCodeProtocol, closedProtocol}
	}
	f.payload = f.payload[1 : len(f.payload)-pad]
	return nil
}

func appendH2Head(b []byte, size int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(b, byte(size>>16), byte(size>>8), byte(size), byte(t), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendH2Setting(b []byte, id http2.SettingID, v uint32) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(id))
	return binary.BigEndian.AppendUint32(b, v)
}

func appendH2Window(b []byte, id, n uint32) []byte {
	return binary.BigEndian.AppendUint32(appendH2Head(b, 4, http2.FrameWindowUpdate, 0, id), n)
}

func appendH2Reset(b []byte, id uint32, code http2.ErrCode) []byte {
	return binary.BigEndian.AppendUint32(appendH2Head(b, 4, http2.FrameRSTStream, 0, id), uint32(code))
}

func appendH2GoAway(b []byte, last uint32, code http2.ErrCode) []byte {
	b = appendH2Head(b, 8, http2.FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

func appendH2Ping(b []byte, flags http2.Flags, data []byte) []byte {
	return append(appendH2Head(b, 8, http2.FramePing, flags, 0), data[:8]...)
}

// appendH2Block writes a header block as HEADERS and as many CONTINUATION frames as the size needs.
func appendH2Block(b, block []byte, flags http2.Flags, id uint32) []byte {
	typ := http2.FrameHeaders
	for len(block) > h2FrameMax {
		b = append(appendH2Head(b, h2FrameMax, typ, flags, id), block[:h2FrameMax]...)
		block, typ, flags = block[h2FrameMax:], http2.FrameContinuation, 0
	}
	return append(appendH2Head(b, len(block), typ, flags|http2.FlagHeadersEndHeaders, id), block...)
}

// h2Error ends a connection: code is told to the peer by GOAWAY and reason is counted.
type h2Error struct {
	code   http2.ErrCode
	reason h2Closed
}

func (e *h2Error) Error() string {
	return "HTTP/2 connection ended with " + e.code.String() + ": " + e.reason.String()
}

// Ends of streams.
var (
	errH2Reset = errors.New("the peer reset the HTTP/2 stream")
	// errH2Cancelled is CANCEL from an endpoint: it has no use for the stream any more, as when a gRPC deadline has passed there.
	errH2Cancelled = errors.New("the endpoint cancelled the HTTP/2 stream")
	errH2Refused   = errors.New("the endpoint refused the HTTP/2 stream before it did any work")
	// errH2Away is errH2Refused because the endpoint ends the connection, as many do after some number of requests: it says nothing against the next one.
	errH2Away    = fmt.Errorf("the endpoint ends the HTTP/2 connection: %w", errH2Refused)
	errH2Gone    = errors.New("the HTTP/2 connection has ended")
	errH2Stopped = errors.New("the HTTP/2 stream was stopped")
	errH2Cut     = errors.New("the HTTP/2 stream broke the protocol")
	errH2Slow    = errors.New("the peer moved fewer bytes than the minimum rate")
	errH2Length  = errors.New("the HTTP/2 body is longer or shorter than its content-length")
)
