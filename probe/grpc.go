package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// grpcKind asks grpc.health.v1.Health/Check (github.com/grpc/grpc/doc/health-checking.md). The two messages have one
// field each, so they are written and read here instead of linking a gRPC library into the binary.
type grpcKind struct{ service string }

// servingWords are the values of HealthCheckResponse.ServingStatus.
var servingWords = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// statusWords are the gRPC status codes (google.golang.org/grpc/codes).
var statusWords = [...]string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL",
	"UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}

var errMessage = errors.New("not a health message")

func (k *grpcKind) ask(ctx context.Context, t Target) finding {
	conn, hang, f := dial(ctx, t, t.TLS != nil, "h2")
	if conn == nil {
		return f
	}
	defer hang()
	resp, end, f := askH2(conn, k.request(ctx, t))
	if resp == nil {
		return f
	}
	defer end()
	if resp.StatusCode != http.StatusOK {
		return bad("status %d, want 200", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	// A call that failed at once has its status among the headers, any other in the trailers, which
	// are there once the body was read to its end.
	if code := grpcStatus(resp); code != 0 {
		return bad("grpc status %s, want OK", word(statusWords[:], code))
	}
	if err != nil {
		return failed("answer", err)
	}
	serving, err := readServing(body)
	switch {
	case err != nil:
		return bad("answer: %v", err)
	case serving != 1:
		return bad("health %s, want SERVING", word(servingWords[:], serving))
	}
	return good("SERVING")
}

func (k *grpcKind) request(ctx context.Context, t Target) *http.Request {
	u := &url.URL{Scheme: "http", Host: t.Address, Path: "/grpc.health.v1.Health/Check"}
	if t.TLS != nil {
		u.Scheme = "https"
	}
	message := k.message()
	req := &http.Request{Method: "POST", URL: u, Host: t.Address, ContentLength: int64(len(message)),
		Header: http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"evenkeel-probe"}},
		Body:   io.NopCloser(bytes.NewReader(message))}
	if end, ok := ctx.Deadline(); ok {
		req.Header["Grpc-Timeout"] = []string{strconv.FormatInt(max(time.Until(end).Milliseconds(), 1), 10) + "m"}
	}
	return req.WithContext(ctx)
}

// message is HealthCheckRequest{string service = 1} behind the five bytes that gRPC puts before every message.
func (k *grpcKind) message() []byte {
	var m []byte
	if k.service != "" {
		m = append(m, 1<<3|2) // field 1, bytes
		m = binary.AppendUvarint(m, uint64(len(k.service)))
		m = append(m, k.service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
}

// readServing reads HealthCheckResponse{ServingStatus status = 1}; fields that are not known are passed over.
func readServing(b []byte) (serving int, err error) {
	if len(b) < 5 || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-5) {
		return 0, errMessage
	}
	for b = b[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, errMessage
		}
		b = b[n:]
		var value uint64
		skip := 0
		switch tag & 7 {
		case 0, 2:
			if value, skip = binary.Uvarint(b); skip <= 0 {
				return 0, errMessage
			}
			if tag&7 == 2 {
				if value > uint64(len(b)-skip) {
					return 0, errMessage
				}
				skip += int(value)
			}
		case 1:
			skip = 8
		case 5:
			skip = 4
		default:
			return 0, errMessage
		}
		if skip > len(b) {
			return 0, errMessage
		}
		if tag == 1<<3 { // field 1, varint
			serving = int(min(value, 1<<16))
		}
		b = b[skip:]
	}
	return serving, nil
}

func grpcStatus(resp *http.Response) int {
	text := resp.Trailer.Get("Grpc-Status")
	if text == "" {
		text = resp.Header.Get("Grpc-Status")
	}
	if text == "" {
		return 2 // UNKNOWN, as the gRPC specification has it for a status that is missing
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 2
	}
	return n
}

func word(words []string, n int) string {
	if n < len(words) {
		return words[n]
	}
	return strconv.Itoa(n)
}
