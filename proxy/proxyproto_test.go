package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// v2 makes a version 2 header: command, family, addresses and TLVs in hexadecimal digits would hide the point, so bytes it is.
func v2(command, family byte, body string) string {
	return proxyV2Start + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

const (
	v4body = "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdd\xd5\x01\xbb" // 192.0.2.1:56789 to 198.51.100.2:443
	v6body = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\xdd\xd5\x01\xbb"
)

func TestParseProxyHeader(t *testing.T) {
	tests := []struct {
		in       string
		from, to string // empty: local
		err      error
		more     bool
	}{
		// The examples of the specification, §2.1.
		{in: "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", from: "255.255.255.255:65535", to: "255.255.255.255:65535"},
		{in: "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			from: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", to: "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
		{in: "PROXY UNKNOWN\r\n"},
		{in: "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"},
		{in: "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", from: "192.168.0.1:56324", to: "192.168.0.11:443"},
		{in: "", more: true},
		{in: "PROX", more: true},
		{in: "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r", more: true},
		{in: "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n", more: true},
		{in: "PROXY TCP4 192.168.0.1  192.168.0.11 56324 443\r\n", err: errProxyBad},
		{in: "PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n", err: errProxyBad},
		{in: "PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n", err: errProxyBad},
		{in: "PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n", err: errProxyBad},
		{in: "PROXY TCP4 192.168.0.1 192.168.0.11 +5632 443\r\n", err: errProxyBad},
		{in: "PROXY TCP4 ::1 ::1 5632 443\r\n", err: errProxyBad},
		{in: "PROXY TCP6 fe80::1%eth0 ::1 5632 443\r\n", err: errProxyBad},
		{in: "PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n", err: errProxyBad},
		{in: "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n", err: errProxyBad},
		{in: "PROXY UNKNOWN " + strings.Repeat("x", 200), err: errProxyLong},
		{in: "GET / HTTP/1.1\r\n", err: errNotProxy},
		{in: "PROXIES\r\n", err: errNotProxy},
		{in: v2(0x21, 0x11, v4body), from: "192.0.2.1:56789", to: "198.51.100.2:443"},
		{in: v2(0x21, 0x12, v4body), from: "192.0.2.1:56789", to: "198.51.100.2:443"},
		{in: v2(0x21, 0x21, v6body), from: "[2001:db8::1]:56789", to: "[2001:db8::2]:443"},
		{in: v2(0x21, 0x11, v4body+"\x04\x00\x03abc"), from: "192.0.2.1:56789", to: "198.51.100.2:443"},
		{in: v2(0x21, 0x11, v4body+"\x04\x00\x09abc"), err: errProxyBad},
		{in: v2(0x21, 0x11, v4body+"\x04"), err: errProxyBad},
		{in: v2(0x21, 0x11, v4body[:11]), err: errProxyBad},
		{in: v2(0x20, 0x00, "")},
		{in: v2(0x20, 0x11, v4body)},
		{in: v2(0x21, 0x00, "whatever")},
		{in: v2(0x21, 0x31, strings.Repeat("\x00", 216))},
		{in: v2(0x22, 0x11, v4body), err: errProxyBad},
		{in: v2(0x11, 0x11, v4body), err: errProxyBad},
		{in: v2(0x21, 0x13, v4body), err: errProxyBad},
		{in: v2(0x21, 0x11, v4body)[:27], more: true},
		{in: v2(0x21, 0x11, v4body)[:13], more: true},
		{in: proxyV2Start + "\x21\x11\xff\xff", err: errProxyLong},
	}
	for _, test := range tests {
		h, n, err := parseProxyHeader([]byte(test.in + "")) // nothing behind it
		switch {
		case test.err != nil:
			if !errors.Is(err, test.err) {
				t.Errorf("%q: error %v, want %v", test.in, err, test.err)
			}
		case test.more:
			if n != 0 || err != nil {
				t.Errorf("%q: %d, %v, want more", test.in, n, err)
			}
		case err != nil || n != len(test.in):
			t.Errorf("%q: %d, %v", test.in, n, err)
		case test.from == "" != h.local:
			t.Errorf("%q: local is %v", test.in, h.local)
		case test.from != "" && (h.from != netip.MustParseAddrPort(test.from) || h.to != netip.MustParseAddrPort(test.to)):
			t.Errorf("%q: from %v to %v", test.in, h.from, h.to)
		}
	}
}

func TestAppendProxyHeader(t *testing.T) {
	tests := []struct {
		version, from, to string
		udp               bool
		want              string
	}{
		{"v1", "192.0.2.1:56789", "198.51.100.2:443", false, "PROXY TCP4 192.0.2.1 198.51.100.2 56789 443\r\n"},
		{"v1", "[2001:db8::1]:1", "[2001:db8::2]:2", false, "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"},
		{"v1", "192.0.2.1:56789", "198.51.100.2:443", true, "PROXY UNKNOWN\r\n"},
		{"v2", "192.0.2.1:56789", "198.51.100.2:443", false, v2(0x21, 0x11, v4body)},
		{"v2", "192.0.2.1:56789", "198.51.100.2:443", true, v2(0x21, 0x12, v4body)},
		{"v2", "[2001:db8::1]:56789", "[2001:db8::2]:443", false, v2(0x21, 0x21, v6body)},
	}
	for _, test := range tests {
		got := appendProxyHeader(nil, test.version, netip.MustParseAddrPort(test.from), netip.MustParseAddrPort(test.to), test.udp)
		if string(got) != test.want {
			t.Errorf("%s %s to %s: %q, want %q", test.version, test.from, test.to, got, test.want)
		}
	}
	if got := appendProxyHeader(nil, "v2", netip.AddrPort{}, netip.AddrPort{}, false); string(got) != v2(0x20, 0, "") {
		t.Errorf("unknown addresses: %q", got)
	}
}

func FuzzParseProxyHeader(f *testing.F) {
	for _, s := range []string{"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "PROXY UNKNOWN\r\n", v2(0x21, 0x11, v4body), v2(0x21, 0x21, v6body+"\x01\x00\x02h2"), v2(0x20, 0, "")} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseProxyHeader(b)
		if n < 0 || n > len(b) || n > proxyHeaderMax || err != nil && n != 0 {
			t.Fatalf("%d of %d bytes, error %v", n, len(b), err)
		}
		if n == 0 || h.local {
			return
		}
		for _, version := range []string{"v1", "v2"} { // what was understood can be said and understood again
			out := appendProxyHeader(nil, version, h.from, h.to, false)
			again, m, err := parseProxyHeader(out)
			same := again.from == h.from && again.to == h.to
			if h.from.Addr().Is4() != h.to.Addr().Is4() {
				same = true // of two families: widened
			}
			if err != nil || m != len(out) || !same {
				t.Fatalf("%s of %+v: %+v, %d of %d, %v", version, h, again, m, len(out), err)
			}
		}
		for k := range n { // a part of it is never a whole one
			if _, m, err := parseProxyHeader(b[:k]); m != 0 || err != nil {
				t.Fatalf("the first %d bytes of %d: %d, %v", k, n, m, err)
			}
		}
	})
}

func TestListenerTakesProxyHeader(t *testing.T) {
	const head = "PROXY TCP4 192.0.2.7 198.51.100.2 56789 443\r\n"
	tests := []struct {
		accept, from, send string
		client             string // empty: refused
		rest               string
	}{
		{"required", "", head + "hi", "192.0.2.7:56789", "hi"},
		{"required", "127.0.0.0/8", head + "hi", "192.0.2.7:56789", "hi"},
		{"required", "10.0.0.0/8", head + "hi", "", ""},
		{"required", "", "hi there", "", ""},
		{"optional", "", head + "hi", "192.0.2.7:56789", "hi"},
		{"optional", "", "hi there", "self", "hi there"},
		{"optional", "10.0.0.0/8", head, "self", head},
		{"optional", "", "PROXY TCP4 nonsense\r\n", "", ""},
		{"required", "", v2(0x20, 0, "") + "hi", "self", "hi"},
		{"off", "", head, "self", head},
	}
	for _, test := range tests {
		p := started(t, Deps{})
		cfg := testListener("l4", "tcp")
		cfg.ProxyProtocol.Accept = test.accept
		if test.from != "" {
			cfg.ProxyProtocol.From = []netip.Prefix{netip.MustParsePrefix(test.from)}
		}
		clients := make(chan string, 1)
		h := toEndpoint(t, p, echoed(t, echo))
		at := serving(t, p, cfg, func(x *exchange.Exchange) *exchange.Refusal {
			clients <- x.Client.String()
			return h(x)
		})
		c, err := net.Dial("tcp", at)
		if err == nil {
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			io.WriteString(c, test.send[:3]) // in two parts
			io.WriteString(c, test.send[3:])
		}
		if test.client == "" {
			eventually(t, "it is refused", func() bool { return statusOf(t, p, "l4").Refused["proxy_header"] == 1 })
			continue
		}
		b := make([]byte, len(test.rest))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != test.rest {
			t.Errorf("%s %q: echo %q, error %v", test.accept, test.send, b, err)
			continue
		}
		if want := test.client; want == "self" {
			test.client = c.LocalAddr().String()
		}
		if got := <-clients; got != test.client {
			t.Errorf("%s %q: client %s, want %s", test.accept, test.send, got, test.client)
		}
	}
}

// Behind a balancer connections are counted by the address in the header, not by the balancer's.
func TestProxyHeaderCountsPerClient(t *testing.T) {
	p := started(t, Deps{})
	cfg := testListener("l4", "tcp")
	cfg.ProxyProtocol.Accept = "required"
	cfg.Limits.ConnectionsPerIP = 1
	at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
	open := func(from string) error {
		c := dialed(t, at)
		io.WriteString(c, "PROXY TCP4 "+from+" 198.51.100.2 56789 443\r\nx")
		_, err := c.Read(make([]byte, 1))
		return err
	}
	if err := errors.Join(open("192.0.2.1"), open("192.0.2.2")); err != nil {
		t.Errorf("two clients: %v", err)
	}
	if open("192.0.2.1") == nil || statusOf(t, p, "l4").Refused["connections_per_ip"] != 1 {
		t.Error("a second connection of one client was not refused")
	}
}

func TestSilentClientOfProxyHeaderIsRefused(t *testing.T) {
	p := started(t, Deps{})
	cfg := testListener("l4", "tcp")
	cfg.ProxyProtocol.Accept = "required"
	cfg.Limits.HandshakeTimeout = 1
	at := serving(t, p, cfg, toEndpoint(t, p, echoed(t, echo)))
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "it is refused", func() bool { return statusOf(t, p, "l4").Refused["handshake_timeout"] == 1 })
}

// TestProxyHeaderOfLinkLocalSender: a sender with a zone is in the network that is named.
func TestProxyHeaderOfLinkLocalSender(t *testing.T) {
	cfg := site.ListenProxyProtocol{Accept: "required", From: []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("10.0.0.0/8")}}
	for from, want := range map[string]bool{"fe80::1%eth0": true, "fe80::1": true, "10.0.0.1": true, "::ffff:10.0.0.1": true, "2001:db8::1": false} {
		if got := believed(&cfg, netip.MustParseAddr(from)); got != want {
			t.Errorf("%s is believed: %v, want %v", from, got, want)
		}
	}
}
