package site

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// quickListen is where `run --to URL` listens when it is not told: this machine only, on a port that needs no rights.
const quickListen = "127.0.0.1:8080"

// quickSchemes are the schemes of --to: the listener's protocol, the default port, and what the pool says beyond its endpoints.
var quickSchemes = []struct{ scheme, protocol, port, pool string }{
	{"http", ProtocolHTTP, "80", ""},
	{"https", ProtocolHTTP, "443", "tls: {}"},
	{"h2c", ProtocolHTTP, "80", "http: h2"},
	{"tcp", ProtocolTCP, "", ""},
	{"udp", ProtocolUDP, "", ""},
}

// Quick makes a site without a file: one listener, web, before one pool, service. Every URL of to is an endpoint: http, https
// (TLS to the endpoint), h2c (HTTP/2 without TLS to the endpoint), tcp or udp, all of the same scheme. listen may be empty for
// 127.0.0.1:8080; admin is an address, off, or empty for the default. The error is a *Mistakes.
func Quick(listen string, to []string, admin string) (*Site, error) {
	return quick(listen, to, admin, realDisk())
}

func quick(listen string, to []string, admin string, d disk) (*Site, error) {
	const from = "command line"
	all := &Mistakes{}
	wrong := func(flag, text string) { all.add(Mistake{File: from, Path: flag, Text: text}) }
	if listen == "" {
		listen = quickListen
	}
	if _, err := checkListen(listen); err != nil {
		wrong("--listen", err.Error())
	}
	if _, err := checkListen(admin); err != nil && admin != "" && admin != "off" {
		wrong("--admin", err.Error()+"; also allowed: off")
	}
	if len(to) == 0 {
		wrong("--to", "is missing; say where requests go, such as --to http://127.0.0.1:3000")
	}
	var endpoints []string
	first := -1
	for _, u := range to {
		i, address, err := quickEndpoint(u)
		switch {
		case err != nil:
			wrong("--to", err.Error())
		case first >= 0 && i != first:
			wrong("--to", fmt.Sprintf("%s is not %s:// as the first; all endpoints of one pool are of one scheme (use a site file for more pools)", quote(u), quickSchemes[first].scheme))
		case slices.Contains(endpoints, quoted(address)):
			wrong("--to", fmt.Sprintf("%s is named twice", quote(u)))
		default:
			first, endpoints = i, append(endpoints, quoted(address))
		}
	}
	if len(all.List) > 0 {
		return nil, all
	}
	s, err := parse(from, quickText(listen, admin, endpoints, first), d)
	var mistakes *Mistakes
	if errors.As(err, &mistakes) {
		flags := map[string]string{"listeners.web.listen": "--listen", "admin.listen": "--admin"}
		for i, m := range mistakes.List { // there is no text whose lines could be named
			m.Line, m.Column = 0, 0
			if f := flags[m.Path]; f != "" {
				m.Path = f
			}
			mistakes.List[i] = m
		}
		return nil, mistakes
	}
	s.Files = nil
	return s, nil
}

// quickText is the site file that the flags stand for.
func quickText(listen, admin string, endpoints []string, scheme int) []byte {
	var b strings.Builder
	q := quickSchemes[scheme]
	if admin != "" {
		fmt.Fprintf(&b, "admin: {listen: %s}\n", quoted(admin))
	}
	fmt.Fprintf(&b, "listeners: {web: {listen: %s, protocol: %s}}\n", quoted(listen), q.protocol)
	fmt.Fprintf(&b, "pools:\n  service:\n    endpoints: [%s]\n", strings.Join(endpoints, ", "))
	if q.pool != "" {
		fmt.Fprintf(&b, "    %s\n", q.pool)
	}
	return []byte(b.String())
}

// quickEndpoint reads one URL of --to: the index of its scheme and host:port.
func quickEndpoint(to string) (scheme int, address string, err error) {
	schemes := make([]string, len(quickSchemes))
	for i, s := range quickSchemes {
		schemes[i] = s.scheme
	}
	word, _, ok := strings.Cut(to, "://")
	if !ok {
		if _, err := checkAddress(to); err == nil {
			return 0, "", fmt.Errorf("%s has no scheme; did you mean http://%s?", quote(to), to)
		}
		return 0, "", fmt.Errorf("%s is not a URL; write one such as http://127.0.0.1:3000", quote(to))
	}
	scheme = slices.Index(schemes, strings.ToLower(word))
	if scheme < 0 {
		return 0, "", fmt.Errorf("%s has the scheme %s; allowed are %s%s", quote(to), word, strings.Join(schemes, ", "), didYouMean(word, schemes))
	}
	u, err := url.Parse(to)
	if err != nil {
		var e *url.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		return 0, "", fmt.Errorf("%s is not a URL: %w", quote(to), err)
	}
	q := quickSchemes[scheme]
	switch {
	case u.User != nil:
		return 0, "", errors.New("the URL carries a user and password, which are not sent on; leave them out") // and not shown
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return 0, "", fmt.Errorf("%s has a path, but requests keep their own; did you mean %s://%s? (a site file can rewrite paths)", quote(to), q.scheme, u.Host)
	case u.Hostname() == "":
		return 0, "", fmt.Errorf("%s names no host", quote(to))
	}
	port := u.Port()
	if port == "" {
		port = q.port
	}
	if port == "" {
		return 0, "", fmt.Errorf("%s has no port; %s has no default one", quote(to), q.scheme)
	}
	address, err = checkAddress(net.JoinHostPort(u.Hostname(), port))
	return scheme, address, err
}
