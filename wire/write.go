package wire

import (
	"net/http"
	"strconv"
)

// AppendRequestLine appends the request line of an HTTP/1.1 request.
func AppendRequestLine(dst, method, target []byte) []byte {
	dst = append(dst, method...)
	dst = append(dst, ' ')
	dst = append(dst, target...)
	return append(dst, " HTTP/1.1\r\n"...)
}

// statusLines are the status lines from 100 to 599, made once: composing one costs more than copying it.
var statusLines = makeStatusLines()

func makeStatusLines() (t [500]string) {
	for i := range t {
		status := 100 + i
		t[i] = "HTTP/1.1 " + strconv.Itoa(status) + " " + http.StatusText(status) + "\r\n"
	}
	return t
}

// AppendStatusLine appends the status line of an HTTP/1.1 response. Statuses without a registered name
// get an empty reason.
func AppendStatusLine(dst []byte, status int) []byte {
	if i := status - 100; i >= 0 && i < len(statusLines) {
		return append(dst, statusLines[i]...)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = AppendInt(dst, int64(status))
	return append(dst, " \r\n"...)
}

// AppendField appends one field line. Name and value must be valid.
func AppendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// AppendFields appends the lines of fields. Copying neighbours in one buffer as one range was measured and gains nothing:
// finding out that they are neighbours costs what the copies do.
func AppendFields(dst []byte, fields []Field) []byte {
	for i := range fields {
		dst = AppendField(dst, fields[i].Name, fields[i].Value)
	}
	return dst
}

// AppendChunkHead appends the line that opens a chunk of n bytes. n of 0 opens the last chunk.
func AppendChunkHead(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, "\r\n"...)
}

// AppendInt appends n in decimal.
func AppendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
