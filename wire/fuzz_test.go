package wire

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

// FuzzRequest holds that net/http reads every head that is passed on, and reads it alike: we may be stricter, never
// looser. net/http alone refuses, when the coding is chunked, a Trailer field that names framing fields; here
// such trailers are dropped when they come.
func FuzzRequest(f *testing.F) {
	for _, in := range seeds(f, "requests.txt", "smuggling.txt") {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 2048 {
			return
		}
		for _, lim := range []Limits{usual, {HeadBytes: 64, Fields: 3}} {
			checkDribbled(t, in, lim)
		}
		compareRequest(t, in)
	})
}

// compareRequest compares what Request.Parse takes with net/http, and reports whether it took it.
func compareRequest(t *testing.T, in []byte) bool {
	var r Request
	n, err := r.Parse(in, usual)
	if err != nil || n == 0 {
		return false
	}
	if !bytes.HasSuffix(in[:n], r.Raw) || len(in[:n])-len(r.Raw) > 2 {
		t.Fatalf("Raw is %q of %q", r.Raw, in[:n])
	}
	if r.Chunked && r.Field(Trailer) != nil {
		return true
	}
	q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.Raw)))
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", r.Raw, err)
	}
	if q.Method != string(r.Method) || q.ProtoMinor != r.Minor || q.Close != r.Close || !strings.EqualFold(q.Host, string(r.Host)) {
		t.Errorf("%q: method %q, minor %d, close %t, host %q", r.Raw, q.Method, q.ProtoMinor, q.Close, q.Host)
	}
	if want := originForm(q); want != string(r.Target) {
		t.Errorf("%q: target %q, net/http %q", r.Raw, r.Target, want)
	}
	if slices.Equal(q.TransferEncoding, []string{"chunked"}) != r.Chunked || !r.Chunked && q.ContentLength != max(0, r.ContentLength) {
		t.Errorf("%q: coding %q, length %d", r.Raw, q.TransferEncoding, q.ContentLength)
	}
	checkFields(t, r.Raw, r.Fields, q.Header, Host)
	return true
}

// originForm is the target as Request shows it, from the view of net/http.
func originForm(q *http.Request) string {
	if q.Method == http.MethodConnect || q.URL.Scheme == "" {
		return q.RequestURI
	}
	_, rest, _ := strings.Cut(q.RequestURI, "://")
	switch i := strings.IndexByte(rest, '/'); {
	case i >= 0:
		return rest[i:]
	case q.Method == http.MethodOptions:
		return "*"
	}
	return "/"
}

// checkFields compares fields with the header of net/http, which takes Transfer-Encoding and the ones without out.
func checkFields(t *testing.T, raw []byte, fields []Field, header http.Header, without ...ID) {
	t.Helper()
	ours := http.Header{}
	for _, f := range fields {
		if f.ID != TransferEncoding && !slices.Contains(without, f.ID) {
			key := textproto.CanonicalMIMEHeaderKey(string(f.Name))
			ours[key] = append(ours[key], string(f.Value))
		}
	}
	if ours["Pragma"] != nil && ours["Cache-Control"] == nil { // made up from Pragma
		delete(header, "Cache-Control")
	}
	if !maps.EqualFunc(ours, header, slices.Equal) {
		t.Errorf("%q: fields %q, net/http %q", raw, ours, header)
	}
}

// FuzzResponse is FuzzRequest for responses, with the same exception.
func FuzzResponse(f *testing.F) {
	for _, in := range seeds(f, "responses.txt") {
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 2048 {
			return
		}
		compareResponse(t, in)
	})
}

// compareResponse compares what Response.Parse takes with net/http, and reports whether it took it.
func compareResponse(t *testing.T, in []byte) bool {
	var r Response
	n, err := r.Parse(in, usual)
	if err != nil || n == 0 {
		return false
	}
	if r.Chunked && r.Field(Trailer) != nil {
		return true
	}
	q, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(r.Raw)), &http.Request{Method: "GET"})
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", r.Raw, err)
	}
	_, reason, _ := strings.Cut(q.Status, " ")
	if q.StatusCode != r.Status || q.ProtoMinor != r.Minor || reason != string(r.Reason) {
		t.Errorf("%q: status %d %q, minor %d", r.Raw, q.StatusCode, reason, q.ProtoMinor)
	}
	length, chunked, untilClose := r.BodyLength([]byte("GET"))
	if q.ContentLength != length {
		t.Errorf("%q: length %d, net/http %d", r.Raw, length, q.ContentLength)
	}
	if bodyless := r.Status < 200 || r.Status == 204 || r.Status == 304; !bodyless {
		if slices.Equal(q.TransferEncoding, []string{"chunked"}) != chunked {
			t.Errorf("%q: coding %q", r.Raw, q.TransferEncoding)
		}
		if q.Close != (r.Close || untilClose) {
			t.Errorf("%q: close %t, net/http %t", r.Raw, r.Close, q.Close)
		}
	}
	if r.Close && q.Header["Connection"] == nil { // taken out with close
		checkFields(t, r.Raw, r.Fields, q.Header, Connection)
		return true
	}
	checkFields(t, r.Raw, r.Fields, q.Header)
	return true
}

// FuzzChunks holds that a body decodes as net/http decodes it, in whatever pieces it comes.
func FuzzChunks(f *testing.F) {
	for _, in := range seeds(f, "chunks.txt") {
		f.Add(in, 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		if len(in) > 8192 || step < 1 {
			return
		}
		lim := Limits{HeadBytes: 1024, Fields: 10}
		checkSplits(t, in, lim, 1, step)
		var c Chunks
		c.Reset(lim)
		body, n, err := decode(&c, in)
		if n > len(in) {
			t.Fatalf("%q: consumed %d octets", in, n)
		}
		if err != io.EOF {
			return
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in[:n])))
		if err != nil || !bytes.Equal(body, theirs) {
			t.Errorf("%q: body %q, net/http %q, %v", in, body, theirs, err)
		}
		for _, field := range c.Trailers() {
			if !ValidFieldName(field.Name) || !ValidFieldValue(field.Value) || HopByHop(field.ID) || field.ID == ContentLength {
				t.Errorf("%q: trailer %q: %q", in, field.Name, field.Value)
			}
		}
	})
}

// FuzzField holds that fields survive writing and reading exactly when they are valid.
func FuzzField(f *testing.F) {
	for _, s := range [][2]string{{"A", "b"}, {"Content-Type", "text/html; charset=utf-8"}, {"x-request-id", ""}, {"", "b"},
		{"A b", "c"}, {"A", " b"}, {"A", "b\r\nC: d"}, {"A", "b\x00"}, {"A:", "b"}, {"A", "tab\there \xff"}, {"\xe4", "b"}} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	f.Fuzz(func(t *testing.T, name, value []byte) {
		if len(name)+len(value) > 4096 {
			return
		}
		head := AppendStatusLine(nil, 200)
		head = AppendFields(head, []Field{{Name: name, Value: value}})
		head = append(head, "\r\n"...)
		var r Response
		n, err := r.Parse(head, usual)
		same := err == nil && n == len(head) && len(r.Fields) == 1 &&
			bytes.Equal(r.Fields[0].Name, name) && bytes.Equal(r.Fields[0].Value, value)
		valid := ValidFieldName(name) && ValidFieldValue(value)
		if valid && !same && err != nil { // framing fields are refused for what they say, not how
			if id := FieldID(name); id == ContentLength || id == TransferEncoding {
				return
			}
		}
		if same != valid {
			t.Errorf("%q: %q: valid %t, read back alike %t, %v", name, value, valid, same, err)
		}
		if same && (r.Fields[0].ID != FieldID(name) || r.Fields[0].ID != Other && !ValidFieldName(name)) {
			t.Errorf("%q: known as %d and %d", name, r.Fields[0].ID, FieldID(name))
		}
		if got, want := HasToken(value, string(name)), naiveToken(value, name); got != want && valid {
			t.Errorf("%q has %q: %t", value, name, got)
		}
	})
}

func naiveToken(value, name []byte) bool {
	for member := range strings.SplitSeq(string(value), ",") {
		if strings.EqualFold(strings.Trim(member, " \t"), string(name)) {
			return true
		}
	}
	return false
}
