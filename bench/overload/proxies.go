package overload

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/bench/machine"
)

// The proxies that can be measured.
const (
	evenkeel      = "evenkeel"        // not told what its endpoints can do
	haproxyStock  = "haproxy"         // nor is this one
	haproxyRetry  = "haproxy retries" // with retries as its manual shows them
	nginxRetry    = "nginx retries"   // likewise
	caddyRetry    = "caddy retries"   // likewise
	traefikRetry  = "traefik retries" // likewise
	haproxyOracle = "haproxy oracle"  // told the number of workers, a queue that fits, and what class means
)

// front is a running proxy with two listeners: one before a single endpoint, one before a pool.
type front struct {
	process    *machine.Process
	single, of string // addresses
}

// start starts a proxy in dir.
func (l *lab) start(name, dir, single string, pool []string, workers int) (*front, error) {
	f := &front{}
	var err error
	for _, at := range []*string{&f.single, &f.of} {
		if *at, err = l.ports.FreeAddress("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, text := filepath.Join(dir, "haproxy.cfg"), ""
	argv := []string{"haproxy", "-db", "-f", file}
	var env []string
	switch name {
	case evenkeel:
		file = filepath.Join(dir, "site.yaml")
		argv = []string{l.program, "run", "-f", file}
		text = evenkeelSite(f, single, pool)
	case haproxyStock:
		text = haproxyConf(f, single, pool, "  balance roundrobin\n", "")
	case haproxyRetry:
		text = haproxyConf(f, single, pool, "  balance roundrobin\n  retries 3\n  option redispatch 1\n  retry-on all-retryable-errors\n  option httpchk GET /healthz\n", " check")
	case nginxRetry:
		file = filepath.Join(dir, "nginx.conf")
		argv = []string{"nginx", "-p", dir, "-c", file, "-e", "stderr"}
		text = nginxConf(f, single, pool)
	case caddyRetry:
		file = filepath.Join(dir, "Caddyfile")
		argv = []string{"caddy", "run", "--config", file, "--adapter", "caddyfile"}
		env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		text = caddyConf(f, single, pool)
	case traefikRetry:
		file = filepath.Join(dir, "routes.yaml")
		argv = []string{"traefik", "--entryPoints.single.address=" + f.single, "--entryPoints.pool.address=" + f.of, "--providers.file.filename=" + file,
			"--log.level=ERROR", "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false"}
		text = traefikConf(single, pool)
	case haproxyOracle:
		text = haproxyConf(f, single, pool, "  balance leastconn\n  timeout queue 300ms\n  option httpchk GET /healthz\n"+
			"  http-request set-priority-class int(1) if { req.hdr(x-class) critical }\n"+
			"  http-request set-priority-class int(3) if { req.hdr(x-class) low }\n", fmt.Sprintf(" maxconn %d check", workers))
	default:
		return nil, fmt.Errorf("there is no proxy %q", name)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	f.process, err = machine.Start(machine.Command{Name: strings.ReplaceAll(name, " ", "-"), Argv: argv, Dir: dir, Env: env})
	if err != nil {
		return nil, err
	}
	for _, address := range []string{f.single, f.of} {
		if err := f.process.Listening(address); err != nil {
			f.stop()
			return nil, err
		}
	}
	return f, nil
}

func (f *front) stop() {
	f.process.Signal(syscall.SIGKILL) // nothing is open any more that would have to end well
	f.process.Stop(5 * time.Second)
}

// evenkeelSite says who sends, and nothing of what the endpoints can do.
func evenkeelSite(f *front, single string, pool []string) string {
	return fmt.Sprintf(`admin: {listen: "off"}
listeners:
  single: {listen: %q}
  pool: {listen: %q}
identify:
  trusted_proxies: [127.0.0.0/8]
  class: {header: X-Class}
  customer: {header: X-Tenant}
pools:
  single: {endpoints: [%q], shed: {mode: on}, probe: {http: {path: /healthz}, every: 1s}}
  pool: {endpoints: ["%s"], shed: {mode: on}, probe: {http: {path: /healthz}, every: 1s}}
routes:
  - {name: single, listeners: [single], pool: single}
  - {name: pool, listeners: [pool], pool: pool}
`, f.single, f.of, single, strings.Join(pool, `", "`))
}

// haproxyConf has HAProxy's usual timeouts, and what more it is told.
func haproxyConf(f *front, single string, pool []string, told, server string) string {
	text := "global\n  maxconn 20000\n  no strict-limits\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n  timeout server 30s\n" +
		fmt.Sprintf("listen single\n  bind %s\n%s  server one %s%s\nlisten pool\n  bind %s\n%s", f.single, told, single, server, f.of, told)
	for i, address := range pool {
		text += fmt.Sprintf("  server s%d %s%s\n", i, address, server)
	}
	return text
}

// nginxConf has retries as nginx's manual shows them: another server after errors, timeouts and answers that say "not now".
func nginxConf(f *front, single string, pool []string) string {
	text := "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr crit;\nevents { worker_connections 8192; }\nhttp {\n  access_log off;\n" +
		"  client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n" +
		"  proxy_http_version 1.1;\n  proxy_set_header Connection \"\";\n  proxy_next_upstream error timeout http_502 http_503 http_504;\n"
	for _, one := range []struct {
		name, listen string
		servers      []string
	}{{"single", f.single, []string{single}}, {"pool", f.of, pool}} {
		text += "  upstream " + one.name + " {\n    keepalive 256;\n"
		for _, s := range one.servers {
			text += "    server " + s + ";\n"
		}
		text += fmt.Sprintf("  }\n  server {\n    listen %s;\n    location / { proxy_pass http://%s; }\n  }\n", one.listen, one.name)
	}
	return text + "}\n"
}

// caddyConf has retries as Caddy's manual shows them: another server for a second at the most, and servers that fail left alone for a while.
func caddyConf(f *front, single string, pool []string) string {
	text := "{\n  admin off\n  auto_https off\n  log {\n    level ERROR\n  }\n}\n"
	for _, one := range []struct {
		listen  string
		servers []string
	}{{f.single, []string{single}}, {f.of, pool}} {
		text += fmt.Sprintf("http://%s {\n  reverse_proxy %s {\n    lb_policy round_robin\n    lb_retries 2\n    lb_try_duration 1s\n    fail_duration 10s\n"+
			"    unhealthy_status 503\n    health_uri /healthz\n    health_interval 1s\n  }\n}\n", one.listen, strings.Join(one.servers, " "))
	}
	return text
}

// traefikConf has retries as Traefik's manual shows them, four attempts in all with waits that grow from 100 ms, after the answers that nginx repeats too.
func traefikConf(single string, pool []string) string {
	text := "http:\n  middlewares:\n    again: {retry: {attempts: 4, initialInterval: 100ms, status: [502-504]}}\n  routers:\n"
	for _, name := range []string{"single", "pool"} {
		text += fmt.Sprintf("    %s: {entryPoints: [%s], rule: 'PathPrefix(`/`)', middlewares: [again], service: %s}\n", name, name, name)
	}
	text += "  services:\n"
	for _, one := range []struct {
		name    string
		servers []string
	}{{"single", []string{single}}, {"pool", pool}} {
		text += fmt.Sprintf("    %s: {loadBalancer: {healthCheck: {path: /healthz, interval: 1s}, servers: [{url: 'http://%s'}]}}\n", one.name,
			strings.Join(one.servers, "'}, {url: 'http://"))
	}
	return text
}

// rivals are the proxies beside evenkeel that were asked for, and why there are none.
func rivals(against string) ([]string, error) {
	switch against {
	case "":
		return nil, nil
	case "haproxy":
		if _, err := exec.LookPath("haproxy"); err != nil {
			return nil, fmt.Errorf("haproxy cannot be compared with: %w", err)
		}
		return []string{haproxyOracle, haproxyStock}, nil
	}
	if against == "retries" {
		for _, name := range []string{"haproxy", "nginx"} {
			if _, err := exec.LookPath(name); err != nil {
				return nil, fmt.Errorf("%s cannot be compared with: %w", name, err)
			}
		}
		list := []string{haproxyRetry, nginxRetry}
		for program, name := range map[string]string{"caddy": caddyRetry, "traefik": traefikRetry} {
			if _, err := exec.LookPath(program); err == nil {
				list = append(list, name)
			}
		}
		slices.Sort(list[2:])
		return list, nil
	}
	return nil, fmt.Errorf("there is no rival %q; known are haproxy and retries", against)
}
