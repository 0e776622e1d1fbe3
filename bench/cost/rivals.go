package cost

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The modes in which a proxy is started.
const (
	modeHTTP   = "http"   // HTTP/1.1 to HTTP/1.1
	modeTLS    = "tls"    // HTTPS (TLS 1.3, HTTP/1.1) to HTTP/1.1
	modeH2C    = "h2c"    // HTTP/2 by prior knowledge to HTTP/1.1
	modeTCP    = "tcp"    // bytes
	modeRefuse = "refuse" // HTTP/1.1, every request refused
)

// refusedWith is the status of refusals: no route leads to where the load asks.
const refusedWith = 404

// evenkeel is the name of ours in tables.
const evenkeel = "evenkeel"

// setting is what the configuration of a proxy is made of.
type setting struct {
	mode, listen, service string
	cert, key, both       string
	dir                   string // for files of this proxy
	program               string // evenkeel's
}

// rivalNames are the proxies that evenkeel can be compared with.
var rivalNames = []string{"haproxy", "nginx"}

var versionForm = regexp.MustCompile(`\d+\.\d+[\w.+~-]*`)

// version is what a proxy calls itself. evenkeel's is the revision it was built from, until it has releases.
func version(name, program string) string {
	if name == evenkeel {
		out, _ := exec.Command(program, "version").CombinedOutput()
		first, _, _ := strings.Cut(string(out), "\n")
		return strings.TrimSpace(strings.TrimPrefix(first, evenkeel))
	}
	out, _ := exec.Command(name, "-v").CombinedOutput()
	return string(versionForm.Find(out))
}

// argv writes what the proxy needs into s.dir and returns its command line. All forward over kept connections and add
// X-Forwarded-For; rivals have no limits switched on, evenkeel has its defaults.
func argv(name string, s setting) ([]string, error) {
	file := filepath.Join(s.dir, name+".conf")
	switch name {
	case evenkeel:
		return evenkeelArgv(s)
	case "haproxy":
		return []string{"haproxy", "-db", "-f", file}, os.WriteFile(file, haproxyConf(s), 0o644)
	case "nginx":
		if s.mode == modeTCP && streamModule() == "" {
			return nil, errNoStream
		}
		return []string{"nginx", "-p", s.dir, "-e", filepath.Join(s.dir, "error.log"), "-c", file}, os.WriteFile(file, nginxConf(s), 0o644)
	}
	return nil, fmt.Errorf("there is no rival %q; known are %s", name, strings.Join(rivalNames, ", "))
}

var errNoStream = fmt.Errorf("nginx has no stream module here (Debian: libnginx-mod-stream)")

func evenkeelArgv(s setting) ([]string, error) {
	run := []string{s.program, "run"}
	switch s.mode {
	case modeHTTP, modeH2C:
		return append(run, "--listen", s.listen, "--to", "http://"+s.service, "--admin", "off"), nil
	case modeTCP:
		return append(run, "--listen", s.listen, "--to", "tcp://"+s.service, "--admin", "off"), nil
	}
	file := filepath.Join(s.dir, "site.yaml")
	if s.mode == modeRefuse {
		text := fmt.Sprintf("admin: {listen: \"off\"}\nlisteners: {web: {listen: %q}}\npools: {service: {endpoints: [%q]}}\nroutes: [{name: elsewhere, hosts: [elsewhere.example], pool: service}]\n", s.listen, s.service)
		return append(run, "-f", file), os.WriteFile(file, []byte(text), 0o644)
	}
	text := fmt.Sprintf(`admin: {listen: "off"}
listeners:
  web:
    listen: %q
    tls: {min_version: "1.3", certificates: [{cert: %q, key: %q}]}
pools: {service: {endpoints: [%q]}}
`, s.listen, s.cert, s.key, s.service)
	return append(run, "-f", file), os.WriteFile(file, []byte(text), 0o644)
}

func haproxyConf(s setting) []byte {
	bind := ""
	switch s.mode {
	case modeTLS:
		bind = " ssl crt " + s.both + " ssl-min-ver TLSv1.3 alpn http/1.1"
	case modeH2C:
		bind = " proto h2"
	}
	deny := ""
	if s.mode == modeRefuse {
		deny = fmt.Sprintf("  http-request deny deny_status %d if !{ hdr(host) -i elsewhere.example }\n", refusedWith)
	}
	body := fmt.Sprintf("  mode http\n%s  http-reuse always\n  option forwardfor\n  bind %s%s\n  server one %s pool-max-conn 8000\n", deny, s.listen, bind, s.service)
	if s.mode == modeTCP {
		body = fmt.Sprintf("  mode tcp\n  option splice-auto\n  bind %s\n  server one %s\n", s.listen, s.service)
	}
	return []byte("global\n  nbthread 1\n  maxconn 14000\n  no strict-limits\n" +
		"defaults\n  timeout connect 5s\n  timeout client 100s\n  timeout server 100s\n  timeout http-keep-alive 200s\n" +
		"listen front\n" + body)
}

func nginxConf(s setting) []byte {
	head := fmt.Sprintf("daemon off;\npid %s/nginx.pid;\nworker_processes 1;\nworker_rlimit_nofile 20000;\nevents { worker_connections 16000; }\n", s.dir)
	if s.mode == modeTCP {
		load := streamModule()
		if load != "" && load != "built in" {
			head = "load_module " + load + ";\n" + head
		}
		return []byte(head + fmt.Sprintf("stream { server { listen %s backlog=8192; proxy_pass %s; proxy_buffer_size 64k; } }\n", s.listen, s.service))
	}
	extra, bind, deny := "", "", ""
	switch s.mode {
	case modeTLS:
		bind = " ssl"
		extra = fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.3;", s.cert, s.key)
	case modeH2C:
		bind = " http2"
	case modeRefuse:
		deny = fmt.Sprintf(`if ($host != "elsewhere.example") { return %d; }`, refusedWith)
	}
	for _, t := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		extra += fmt.Sprintf(" %s_temp_path %s/%s;", t, s.dir, t)
	}
	return []byte(head + fmt.Sprintf(`http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 200s;
  upstream service { server %s; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen %s backlog=8192%s; %s
    %s
    location / {
      proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_buffers 8 16k; proxy_buffer_size 16k;
    }
  }
}
`, s.service, s.listen, bind, extra, deny))
}

// streamModule is where nginx's TCP proxy lies, "built in", or empty when there is none.
func streamModule() string {
	for _, dir := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"} {
		if path := filepath.Join(dir, "ngx_stream_module.so"); exists(path) {
			return path
		}
	}
	out, _ := exec.Command("nginx", "-V").CombinedOutput()
	if slices.Contains(strings.Fields(string(out)), "--with-stream") {
		return "built in"
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
