package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
)

// TestH1UpgradeWithBody: what went out as the body of the request is not the beginning of the tunnel too.
func TestH1UpgradeWithBody(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := echoed(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		if _, err := readMessage(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, r)
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 4\r\n\r\nbodytunnel")
	if resp, _ := readAnswer(t, r, "POST"); resp.StatusCode != 101 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(r); string(got) != "tunnel" || err != nil {
		t.Errorf("came back: %q, %v", got, err)
	}
}

// TestH1UpgradeBeforeTheEndOfTheBody: an endpoint that switches while the body still comes would have two readers on one client.
func TestH1UpgradeBeforeTheEndOfTheBody(t *testing.T) {
	p, addr := startProxy(t, h1Limits(), nil)
	to := echoed(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	p.setHandler(sendTo(t, p.Proxy, h1Pool(), to, nil))
	c, r := dialRaw(t, addr)
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 40\r\n\r\nbody")
	if resp, _ := readAnswer(t, r, "POST"); resp.StatusCode != 502 || !resp.Close {
		t.Fatalf("got %d", resp.StatusCode)
	}
}
