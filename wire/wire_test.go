package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dribble parses in as it would come octet by octet, each time in a new buffer.
func dribble(in []byte, parse func(buf []byte) (int, error)) (int, error) {
	for i := 0; i <= len(in); i++ {
		if n, err := parse(bytes.Clone(in[:i])); n != 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}

func TestDribbledHeadsEqualWholeOnes(t *testing.T) {
	for _, lim := range []Limits{usual, {HeadBytes: 40, Fields: 1}} {
		for _, in := range seeds(t, "requests.txt", "smuggling.txt", "responses.txt") {
			checkDribbled(t, in, lim)
		}
	}
}

// checkDribbled lets in come to an end, since a dribbled head may be refused later than a whole one.
func checkDribbled(t *testing.T, in []byte, lim Limits) {
	t.Helper()
	in = append(bytes.Clone(in), "\r\n\r\n"...)
	var r, whole Request
	n, err := dribble(in, func(b []byte) (int, error) { return r.Parse(b, lim) })
	wn, werr := whole.Parse(in, lim)
	if got, want := showRequest(&r, n, err), showRequest(&whole, wn, werr); got != want {
		t.Errorf("%q\ndribbled:\n%s\nwhole:\n%s", in, got, want)
	}
	var a, wholeA Response
	n, err = dribble(in, func(b []byte) (int, error) { return a.Parse(b, lim) })
	wn, werr = wholeA.Parse(in, lim)
	if got, want := showResponse(&a, n, err), showResponse(&wholeA, wn, werr); got != want {
		t.Errorf("%q\ndribbled:\n%s\nwhole:\n%s", in, got, want)
	}
}

// TestDribbleIsLinear feeds a head of a megabyte octet by octet: with work that grows with the square of its
// length that takes minutes.
func TestDribbleIsLinear(t *testing.T) {
	head := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 1<<20/6) + "\r\n")
	lim := Limits{HeadBytes: 2 << 20, Fields: 1 << 20}
	trailer := append([]byte("0\r\n"), head[len("GET / HTTP/1.1\r\n"):]...)
	start := time.Now()
	var r Request
	n := 0
	for i := 0; i <= len(head) && n == 0; i++ {
		var err error
		if n, err = r.Parse(head[:i], lim); err != nil {
			t.Fatal(err)
		}
	}
	if n != len(head) {
		t.Fatalf("parsed %d of %d octets", n, len(head))
	}
	var c Chunks
	c.Reset(lim)
	at := 0
	for i := 0; i <= len(trailer); i++ {
		_, used, err := c.Next(trailer[at:i])
		if at += used; err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if at != len(trailer) {
		t.Fatalf("decoded %d of %d octets", at, len(trailer))
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestForgottenReset holds that a new head behind an unfinished one that was given up without Reset is late at worst.
func TestForgottenReset(t *testing.T) {
	var r Request
	if n, err := r.Parse([]byte("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: very-long"), usual); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	next := []byte("GET /b HTTP/1.1\r\nHost: b\r\n\r\n")
	if n, err := r.Parse(next, usual); n != len(next) || err != nil || string(r.Target) != "/b" {
		t.Errorf("%d %v %q", n, err, r.Target)
	}
	r.Parse(next[:20], usual)
	r.Reset()
	if n, err := r.Parse(next, usual); n != len(next) || err != nil || r.Raw == nil {
		t.Errorf("%d %v", n, err)
	}
}

func TestErrorsAreTheSameInBothDirections(t *testing.T) {
	var r Response
	_, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), usual)
	var e *Error
	if !errors.Is(err, ErrBadField) || errors.Is(err, ErrBareLF) || !errors.As(err, &e) || e.Status != 502 {
		t.Errorf("%v", err)
	}
}

func TestChunksAtEverySplit(t *testing.T) {
	for _, in := range seeds(t, "chunks.txt") {
		checkSplits(t, in, Limits{HeadBytes: 256, Fields: 10}, 1, 2, 3, 7)
	}
}

// checkSplits holds that a body decodes alike whole and in steps, with a caller that keeps what was not consumed. Like
// checkDribbled it lets in come to an end.
func checkSplits(t *testing.T, in []byte, lim Limits, steps ...int) {
	t.Helper()
	in = append(bytes.Clone(in), "\r\n\r\n"...)
	var whole Chunks
	whole.Reset(lim)
	want, wantN, wantErr := decode(&whole, in)
	for _, step := range steps {
		var c Chunks
		c.Reset(lim)
		var body []byte
		var err error
		at := 0
		for i := 0; err == nil; i = min(i+step, len(in)) {
			part, n, e := decode(&c, bytes.Clone(in[at:i]))
			body = append(body, part...)
			at += n
			if err = e; i == len(in) {
				break
			}
		}
		if !bytes.Equal(body, want) || at != wantN || err != wantErr || len(c.Trailers()) != len(whole.Trailers()) {
			t.Errorf("%q in steps of %d: body %q, %d octets, %v; whole %q, %d octets, %v", in, step, body, at, err, want, wantN, wantErr)
		}
	}
}

func TestBodyLength(t *testing.T) {
	for _, c := range []struct {
		method  string
		r       Response
		n       int64
		chunked bool
		close   bool
	}{
		{"GET", Response{Status: 200, ContentLength: 5}, 5, false, false},
		{"HEAD", Response{Status: 200, ContentLength: 5}, 0, false, false},
		{"HEAD", Response{Status: 200, ContentLength: -1, Chunked: true}, 0, false, false},
		{"GET", Response{Status: 200, ContentLength: -1, Chunked: true}, -1, true, false},
		{"GET", Response{Status: 200, ContentLength: -1}, -1, false, true},
		{"GET", Response{Status: 204, ContentLength: -1}, 0, false, false},
		{"GET", Response{Status: 304, ContentLength: 5}, 0, false, false},
		{"GET", Response{Status: 101, ContentLength: -1}, 0, false, false},
		{"CONNECT", Response{Status: 200, ContentLength: 5}, -1, false, true},
		{"CONNECT", Response{Status: 403, ContentLength: 5}, 5, false, false},
	} {
		n, chunked, untilClose := c.r.BodyLength([]byte(c.method))
		if n != c.n || chunked != c.chunked || untilClose != c.close {
			t.Errorf("%s %+v: %d %t %t", c.method, c.r, n, chunked, untilClose)
		}
	}
}

func TestNamedByConnection(t *testing.T) {
	head := func(connection string) string {
		return "GET / HTTP/1.1\r\nHost: a\r\nConnection: " + connection + "\r\n\r\n"
	}
	for _, c := range []struct {
		connection, name string
		want             bool
	}{
		{"close", "close", false},
		{"keep-alive, upgrade", "X-A", false},
		{"X-A", "x-a", true},
		{"close, x-b ,X-A", "X-A", true},
		{"x-ab", "x-a", false},
		{"Host, Content-Length, x", "Host", false},
		{"Host, Content-Length, x", "content-length", false},
	} {
		var r Request
		if _, err := r.Parse([]byte(head(c.connection)), usual); err != nil {
			t.Fatal(err)
		}
		if got := r.NamedByConnection([]byte(c.name)); got != c.want {
			t.Errorf("%q names %q: %t", c.connection, c.name, got)
		}
	}
	var r Response
	if _, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nConnection: x-a\r\n\r\n"), usual); err != nil || !r.NamedByConnection([]byte("X-A")) {
		t.Error("response: X-A is not named", err)
	}
}

func TestIsIdempotent(t *testing.T) {
	for method, want := range map[string]bool{"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "PUT": true,
		"DELETE": true, "POST": false, "PATCH": false, "CONNECT": false, "get": false} {
		if got := (&Request{Method: []byte(method)}).IsIdempotent(); got != want {
			t.Errorf("%s: %t", method, got)
		}
	}
}

func TestFieldID(t *testing.T) {
	seen := map[ID]bool{}
	for _, list := range knownFields {
		for _, k := range list {
			seen[k.id] = true
			for _, name := range []string{k.name, strings.ToUpper(k.name), http.CanonicalHeaderKey(k.name)} {
				if got := FieldID([]byte(name)); got != k.id {
					t.Errorf("%s: %d, want %d", name, got, k.id)
				}
			}
			for i := range k.name { // every octet counts, and only letters fold
				for c := range 256 {
					b := []byte(k.name)
					b[i] = byte(c)
					if got, want := FieldID(b) == k.id, strings.EqualFold(string(b), k.name) && c < 0x80; got != want {
						t.Errorf("%q: known as %s: %t", b, k.name, got)
					}
				}
			}
		}
	}
	for id := Host; id <= HTTP2Settings; id++ {
		if !seen[id] {
			t.Errorf("field %d has no name", id)
		}
	}
	if FieldID(nil) != Other || FieldID(bytes.Repeat([]byte("a"), 300)) != Other {
		t.Error("unknown names are known")
	}
}

func TestTextEnd(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		b := make([]byte, rnd.IntN(40))
		for i := range b {
			b[i] = byte(' ' + rnd.IntN(224))
			switch rnd.IntN(20) {
			case 0:
				b[i] = '\t'
			case 1:
				b[i] = byte(rnd.IntN(256))
			}
		}
		want := 0
		for want < len(b) && (b[want] >= ' ' && b[want] != 0x7f || b[want] == '\t') {
			want++
		}
		if got := textEnd(b, 0); got != want {
			t.Fatalf("%q: %d, want %d", b, got, want)
		}
	}
}

func TestListsAndValues(t *testing.T) {
	for _, c := range []struct {
		list string
		want bool
	}{{"close", true}, {"Close", true}, {"foo, close", true}, {"foo ,\tclose , bar", true}, {"closed", false}, {"", false}, {"foo close", false}} {
		if got := HasToken([]byte(c.list), "close"); got != c.want {
			t.Errorf("%q: %t", c.list, got)
		}
	}
	for value, want := range map[string]bool{"": true, "a b": true, "a\tb": true, " a": false, "a ": false, "a\r\nb": false, "a\x00": false, "\xff": true} {
		if got := ValidFieldValue([]byte(value)); got != want {
			t.Errorf("value %q: %t", value, got)
		}
	}
	for name, want := range map[string]bool{"": false, "A-1": true, "a b": false, "a:": false, "\xe4": false} {
		if got := ValidFieldName([]byte(name)); got != want {
			t.Errorf("name %q: %t", name, got)
		}
	}
	if v, ok := FieldNamed([]Field{{Name: []byte("X-A"), Value: []byte("1")}, {Name: []byte("x-a"), Value: []byte("2")}}, "x-A"); !ok || string(v) != "1" {
		t.Errorf("%q %t", v, ok)
	}
}

// TestDribbledHeadMeetsTheLimit holds that Parse never asks for more than the limit, so that a buffer of that
// size suffices.
func TestDribbledHeadMeetsTheLimit(t *testing.T) {
	lim := Limits{HeadBytes: 64, Fields: 9}
	for in, want := range map[string]error{
		"GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("b", 100): ErrHeadTooLarge,
		"GET /" + strings.Repeat("b", 100):                            ErrURITooLong,
		"\r\nGET /" + strings.Repeat("b", 100):                        ErrURITooLong,
	} {
		var r Request
		for i := range lim.HeadBytes + 1 {
			n, err := r.Parse([]byte(in[:i]), lim)
			if n != 0 || i < lim.HeadBytes && err != nil || i == lim.HeadBytes && err != want {
				t.Fatalf("%q after %d octets: %d, %v", in, i, n, err)
			}
		}
	}
}

func TestAppendTarget(t *testing.T) {
	for _, c := range [][3]string{
		{"/a", "", "/a"}, {"/a", "?b=1", "/a?b=1"}, {"/a", "/c?b=1", "/a/c?b=1"}, {"/a?x=1", "", "/a?x=1"}, {"/a?x=1", "?b=1", "/a?x=1&b=1"},
		{"/a?x=1", "?", "/a?x=1"}, {"/a?", "?b=1", "/a?b=1"}, {"", "?b", "?b"},
	} {
		if got := string(AppendTarget(nil, []byte(c[0]), []byte(c[1]))); got != c[2] {
			t.Errorf("%s and %s: %s, want %s", c[0], c[1], got, c[2])
		}
	}
}
