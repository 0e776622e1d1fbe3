package site

import (
	"errors"
	"strings"
	"testing"
)

func TestQuick(t *testing.T) {
	for _, c := range []struct {
		to       string
		protocol string
		address  string
		tls      bool
		http     string
	}{
		{"http://127.0.0.1:3000", "http", "127.0.0.1:3000", false, "auto"},
		{"http://Shop.internal/", "http", "shop.internal:80", false, "auto"},
		{"https://shop.internal", "http", "shop.internal:443", true, "auto"},
		{"h2c://[::1]", "http", "[::1]:80", false, "h2"},
		{"tcp://10.0.0.1:5432", "tcp", "10.0.0.1:5432", false, "auto"},
		{"udp://10.0.0.1:53", "udp", "10.0.0.1:53", false, "auto"},
	} {
		s, err := Quick("127.0.0.1:0", []string{c.to}, "off")
		if err != nil {
			t.Errorf("%s: %v", c.to, err)
			continue
		}
		l, p := s.Listeners["web"], s.Pools["service"]
		if l.Protocol != c.protocol || l.Listen != "127.0.0.1:0" || p.Endpoints[0].Address != c.address || (p.TLS != nil) != c.tls || p.HTTP != c.http {
			t.Errorf("%s: %+v %+v", c.to, l, p)
		}
		if p.TLS != nil && !p.TLS.Verify {
			t.Errorf("%s: certificates are not verified", c.to)
		}
		if s.Admin.Listen != "off" || len(s.Routes) != 1 || s.Routes[0].Name != "default" || s.Routes[0].Pool != "service" || p.Probe.TCP == nil || l.Limits.ConnectionsPerIP != 10000 {
			t.Errorf("%s: defaults are missing: %+v %+v", c.to, s.Admin, s.Routes)
		}
	}
	if s, err := Quick("", []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}, ""); err != nil || s.Listeners["web"].Listen != quickListen || len(s.Pools["service"].Endpoints) != 2 {
		t.Errorf("%v %v", s, err)
	}
}

func TestQuickMistakes(t *testing.T) {
	for _, c := range []struct {
		listen, to, admin string
		want              string
	}{
		{"", "", "", "command line: --to: is missing; say where requests go, such as --to http://127.0.0.1:3000"},
		{"8080", "http://a", "", `command line: --listen: "8080" has no host; write host:port, such as :8080 for all addresses or 127.0.0.1:8080`},
		{"", "a:80", "", `command line: --to: "a:80" has no scheme; did you mean http://a:80?`},
		{"", "a", "", `command line: --to: "a" is not a URL; write one such as http://127.0.0.1:3000`},
		{"", "htp://a", "", `command line: --to: "htp://a" has the scheme htp; allowed are http, https, h2c, tcp, udp; did you mean http?`},
		{"", "http://a http://a", "", `command line: --to: "http://a" is named twice`},
		{"", "http://a https://b", "", `command line: --to: "https://b" is not http:// as the first; all endpoints of one pool are of one scheme (use a site file for more pools)`},
		{"", "http://a/api", "", `command line: --to: "http://a/api" has a path, but requests keep their own; did you mean http://a? (a site file can rewrite paths)`},
		{"", "http://me:secret@a", "", `command line: --to: the URL carries a user and password, which are not sent on; leave them out`},
		{"", "http://:80", "", `command line: --to: "http://:80" names no host`},
		{"", "tcp://a", "", `command line: --to: "tcp://a" has no port; tcp has no default one`},
		{"", "http://a:b", "", `command line: --to: "http://a:b" is not a URL: invalid port ":b" after host`},
		{"", "http://a", "of", `command line: --admin: "of" has no port; write host:port, such as of:8080; also allowed: off`},
		{"", "http://a", ":7600", `command line: --admin: ":7600" can be reached from other machines; give admin.token, admin.tokens, admin.oidc or admin.tls.client_ca, or listen on 127.0.0.1`},
		{":7600", "http://a", "", `command line: --admin: "127.0.0.1:7600" is taken by listener web already`},
	} {
		_, err := Quick(c.listen, strings.Fields(c.to), c.admin)
		var m *Mistakes
		if !errors.As(err, &m) || err.Error() != c.want {
			t.Errorf("%q\ngot  %v\nwant %s", c, err, c.want)
		}
	}
}
