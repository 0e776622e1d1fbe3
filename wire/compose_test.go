package wire

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Pieces of heads, right and wrong. Composed at random they meet in ways that scenario files do not list and
// that octet-wise fuzzing seldom finds.
var (
	someMethods  = []string{"GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PUT", "G{T"}
	someTargets  = []string{"/", "/a/b?c=d", "//x/y", "/%41%zz", "/%2", "/?%zz", "/a:b@c", "*", "a:80", "[::1]:443", "http://a", "HTTP://A/", "https://a:80/x?y", "http://[::1]:80/", "http://[::]]/", "http://a@b/", "http://b//", "/a;b,c|d\"<>{}[]^`\\", "a", ":80", "http:/a"}
	someVersions = []string{"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"}
	someHosts    = []string{"Host: a", "Host: A", "Host: a:80", "hOsT:[::1]:80", "Host: [::1]:443", "Host: b", "Host:", "Host: a,b", ""}
	someFields   = []string{"Content-Length: 5", "Content-Length: 05", "Content-Length:0", "content-length: 5 ", "Content-Length: +5", "Content-Length: 5,5",
		"Transfer-Encoding: chunked", "transfer-encoding:CHUNKED\t", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity", "Transfer-Encoding: chunked,",
		"Connection: close", "Connection: keep-alive", "Connection: Keep-Alive, close", "connection: upgrade, x-a", "Upgrade: websocket", "Connection:", "Connection: ,,close;",
		"Expect: 100-continue", "Trailer: X-Sum", "Trailer: Content-Length", "Pragma: no-cache", "Cache-Control: x", "X-A: 1", "x-a:\t 2 \t", "X-A : 3", " X-A: 4", "X_A!: \x80\xff",
		"Cookie: a=b; c=d", "Cookie: e", "X-A: b\rc", "X-A: b\nc", "X-A: \x00", ":", "Content-Length", "Proxy-Connection: close"}
	someStatuses = []string{"200 OK", "200", "204 No Content", "304 Not Modified", "101 Switching", "100 ", "500  two  spaces ", "404\tx", "99 x", "1000 x", "+20 x"}
	someEnds     = []string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"}
)

func TestComposedHeads(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	one := func(from []string) string { return from[rnd.IntN(len(from))] }
	requests, responses := 0, 0
	const rounds = 30000
	for range rounds {
		var fields strings.Builder
		for range rnd.IntN(4) {
			fields.WriteString(one(someFields) + one(someEnds))
		}
		fields.WriteString("\r\n")
		host := one(someHosts)
		if host != "" {
			host += "\r\n"
		}
		request := one(someMethods) + " " + one(someTargets) + " " + one(someVersions) + one(someEnds) + host + fields.String()
		if compareRequest(t, []byte(request)) {
			requests++
		}
		response := one(someVersions) + " " + one(someStatuses) + one(someEnds) + fields.String()
		if compareResponse(t, []byte(response)) {
			responses++
		}
		if t.Failed() {
			return
		}
	}
	if requests < rounds/50 || responses < rounds/20 {
		t.Errorf("only %d requests and %d responses of %d were taken: nothing is compared", requests, responses, rounds)
	}
}
