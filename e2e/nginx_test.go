package e2e_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// nginx is a running nginx that serves files.
type nginx struct {
	address string
	root    string
	small   string // content of /small.txt
	large   string // SHA-256 of /large.bin, 10 MB
}

const largeSize = 10_000_000

func startNginx(t testing.TB) *nginx {
	t.Helper()
	need(t, "nginx")
	dir := t.TempDir()
	n := &nginx{address: "127.0.0.1:" + freePort(t), root: filepath.Join(dir, "files"), small: strings.Repeat("an even keel\n", 8)}
	if err := os.MkdirAll(n.root, 0o755); err != nil {
		t.Fatal(err)
	}
	large := make([]byte, largeSize)
	_, _ = rand.Read(large)
	sum := sha256.Sum256(large)
	n.large = hex.EncodeToString(sum[:])
	conf := fmt.Sprintf(`
daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 512; }
http {
  access_log off; gzip_static off; if_modified_since before; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  keepalive_requests 100000;
  server { listen %[2]s; root %[3]s; client_max_body_size 0; }
}
`, dir, n.address, n.root)
	for name, text := range map[string][]byte{"files/small.txt": []byte(n.small), "files/large.bin": large, "files/empty": nil, "files/small.txt.gz": []byte("not asked for"), "nginx.conf": []byte(conf)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As root nginx drops to a user of its own, who must be able to read.
	for _, d := range []string{filepath.Dir(dir), dir, n.root} {
		_ = os.Chmod(d, 0o755)
	}
	for _, f := range []string{"small.txt", "large.bin", "empty", "small.txt.gz"} {
		_ = os.Chmod(filepath.Join(n.root, f), 0o644)
	}
	cmd := exec.Command("nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx said:\n%s", text)
		}
	})
	until(t, "nginx serves", func() bool { return reachable(n.address) })
	return n
}

// nginxGateways are evenkeel before an nginx, once as the README's one line and once with TLS.
func nginxGateways(t testing.TB) (*nginx, *gateway, *gateway, *authority) {
	n := startNginx(t)
	a := newAuthority(t)
	cert, key := a.pair("web", "localhost", "127.0.0.1")
	plain := run(t, "--listen", "127.0.0.1:0", "--to", "http://"+n.address)
	secure := runSite(t, fmt.Sprintf(`
listeners: {web: {listen: "127.0.0.1:0"}, secure: {listen: "127.0.0.1:0", tls: {certificates: [{cert: %q, key: %q}]}}}
pools: {files: {endpoints: [%q], probe: {http: {path: /small.txt}}}}
`, cert, key, n.address))
	return n, plain, secure, a
}

// TestCurl asks nginx through evenkeel for real files, in every version of HTTP that curl speaks.
func TestCurl(t *testing.T) {
	n, plain, secure, a := nginxGateways(t)
	for _, v := range []struct {
		name, url, version string
		flags              []string
	}{
		{"HTTP/1.1", "http://" + plain.at["web"], "1.1", []string{"--http1.1"}},
		{"HTTP/1.0", "http://" + plain.at["web"], "1.1", []string{"--http1.0"}},
		{"h2c", "http://" + plain.at["web"], "2", []string{"--http2-prior-knowledge"}},
		{"h2 by Upgrade is not taken", "http://" + plain.at["web"], "1.1", []string{"--http2"}},
		{"TLS HTTP/1.1", "https://" + secure.at["secure"], "1.1", []string{"--http1.1", "--cacert", a.file}},
		{"TLS h2", "https://" + secure.at["secure"], "2", []string{"--http2", "--cacert", a.file}},
		{"TLS 1.2 h2", "https://" + secure.at["secure"], "2", []string{"--http2", "--tls-max", "1.2", "--cacert", a.file}},
		{"TLS without ALPN", "https://" + secure.at["secure"], "1.1", []string{"--no-alpn", "--cacert", a.file}},
	} {
		t.Run(v.name, func(t *testing.T) { askFiles(t, n, v.url, v.version, v.flags) })
	}
}

// askFiles asks for each kind of file and condition.
func askFiles(t *testing.T, n *nginx, url, version string, flags []string) {
	out := filepath.Join(t.TempDir(), "out")
	curl := func(path string, more ...string) (said, body string) {
		t.Helper()
		args := append([]string{"-sS", "--max-time", "20", "-o", out, "-w", "%{http_version} %{http_code} %{size_download}"}, flags...)
		said = tool(t, "curl", append(append(args, more...), url+path)...)
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return said, string(text)
	}
	for _, c := range []struct {
		path string
		more []string
		want string
		body string // a SHA-256 when longer
	}{
		{"/small.txt", nil, "200 104", n.small},
		{"/empty", nil, "200 0", ""},
		{"/small.txt", []string{"-r", "3-6"}, "206 4", "even"},
		{"/large.bin", nil, "200 10000000", n.large},
		{"/large.bin", []string{"-r", "9999990-"}, "206 10", "*"},
		{"/small.txt", []string{"-r", "5000-"}, "416 *", "*"},
		{"/small.txt", []string{"-H", "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT"}, "304 0", "*"},
		{"/small.txt", []string{"-H", "Accept-Encoding: gzip"}, "200 104", n.small},
		{"/small.txt", []string{"-I"}, "200 0", "*"},
		{"/none", nil, "404 *", "*"},
	} {
		_ = os.WriteFile(out, nil, 0o600)
		said, body := curl(c.path, c.more...)
		if want := "^" + regexp.QuoteMeta(version+" ") + strings.ReplaceAll(c.want, "*", ".*") + "$"; !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("%s %v: %s, want %s", c.path, c.more, said, want)
		}
		if len(body) > 1000 && c.body != "*" {
			sum := sha256.Sum256([]byte(body))
			body = hex.EncodeToString(sum[:])
		}
		if c.body != "*" && body != c.body {
			t.Errorf("%s %v: the body is %.100q, want %.100q", c.path, c.more, body, c.body)
		}
		if c.more != nil && c.more[0] == "-I" && !strings.Contains(strings.ToLower(body), "content-length: 104") {
			t.Errorf("HEAD %s has no Content-Length of the file:\n%s", c.path, body)
		}
	}
}

// TestH2load sends many requests at once: all must succeed.
func TestH2load(t *testing.T) {
	_, plain, secure, _ := nginxGateways(t)
	for _, v := range []struct {
		name, url, spoke string
		flags            []string
	}{
		{"h1", "http://" + plain.at["web"], "http/1.1", []string{"--h1"}},
		{"h2c", "http://" + plain.at["web"], "h2c", nil},
		{"h1 over TLS", "https://" + secure.at["secure"], "http/1.1", []string{"--h1"}},
		{"h2 over TLS", "https://" + secure.at["secure"], "h2", nil},
	} {
		for _, f := range []struct{ path, requests string }{{"/small.txt", "5000"}, {"/large.bin", "20"}} {
			t.Run(v.name+f.path, func(t *testing.T) {
				args := append([]string{"-n", f.requests, "-c", "10", "-m", "10"}, v.flags...)
				out := tool(t, "h2load", append(args, v.url+f.path)...)
				want := fmt.Sprintf("%[1]s done, %[1]s succeeded, 0 failed, 0 errored, 0 timeout", f.requests)
				if !strings.Contains(out, want) || !strings.Contains(out, "status codes: "+f.requests+" 2xx") {
					t.Errorf("h2load says:\n%s", out)
				}
				if !strings.Contains(out, "Application protocol: "+v.spoke+"\n") {
					t.Errorf("it did not speak %s:\n%s", v.spoke, out)
				}
			})
		}
	}
}
