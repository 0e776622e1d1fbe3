package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/even-keel/evenkeel/console"
	"github.com/even-keel/evenkeel/site"
)

// admin is the listener for people and programs that run the node.
type admin struct {
	ln      net.Listener // plain, for handing on
	server  *http.Server
	handler atomic.Pointer[http.Handler]
	task    *task
	pair    *keyPair // nil: no TLS
}

// certificate is the one that the admin listener shows; ok is false when it shows none.
func (a *admin) certificate() (c console.Certificate, ok bool) {
	if a == nil || a.pair == nil {
		return c, false
	}
	pair, err := a.pair.get(nil)
	if err != nil || pair.Leaf == nil {
		return c, false
	}
	return console.Certificate{Hosts: pair.Leaf.DNSNames, NotAfter: pair.Leaf.NotAfter}, true
}

// openAdmin opens and serves the admin listener. With listen: off there is none.
func (n *Node) openAdmin() error {
	cfg := n.site.Admin
	if cfg.Listen == "off" {
		return nil
	}
	ln, err := n.opts.Sockets.adminListener(cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the admin listener cannot be opened, because %s is in use: another evenkeel may run there; give another address with --admin, or off: %w", cfg.Listen, err)
	}
	if err != nil {
		return fmt.Errorf("the admin listener cannot be opened: %w", err)
	}
	a := &admin{ln: ln}
	served := ln
	if cfg.TLS != nil {
		a.pair = &keyPair{cert: cfg.TLS.Cert, key: cfg.TLS.Key}
		conf, err := adminTLS(a.pair, cfg.TLS)
		if err != nil {
			ln.Close()
			return err
		}
		served = tls.NewListener(ln, conf)
	}
	n.admin = a
	n.openDoor(n.site)
	a.use(n.console(n.site))
	a.server = console.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*a.handler.Load()).ServeHTTP(w, r)
	}))
	a.task = n.tasks.start("admin listener", func(context.Context) error {
		if err := a.server.Serve(served); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// use makes h answer from now on.
func (a *admin) use(h http.Handler) {
	if a != nil {
		a.handler.Store(&h)
	}
}

// closeAdmin ends the admin listener. Streams end at once.
func (n *Node) closeAdmin(ctx context.Context) error {
	if n.admin == nil {
		return nil
	}
	defer n.door.Close()
	if err := n.admin.server.Shutdown(ctx); err != nil {
		n.admin.server.Close()
		return err
	}
	return nil
}

// console makes the console for a site.
func (n *Node) console(s *site.Site) http.Handler {
	deps := console.Deps{
		View: n.View, SetEndpoint: n.SetEndpoint, Shed: n.Shed, Break: n.Break, Curves: n.curves.since, Drain: n.Stop, Metrics: n.metrics.handler(), Ready: n.ready,
		Door: n.door, Audit: n, Actions: n.actions, ClientCerts: s.Admin.TLS != nil && s.Admin.TLS.ClientCA != "", Listen: s.Admin.Listen,
	}
	deps.Explain, deps.SetSwitch, deps.Purge = n.Explain, n.SetSwitch, n.Purge
	deps.Prometheus, deps.Monitor = n.monitor.Handler(), func() any { return n.remembered() }
	deps.Objectives, deps.Alerts = n.viewObjectives, n.viewAlerts
	deps.Marks, deps.Config = n.marks, n.viewConfig
	if !s.Monitor.Off {
		deps.Ask = n.promQL
	}
	deps.Silence, deps.EndSilence, deps.TestAlert = n.Silence, n.EndSilence, n.TestAlert
	deps.History = n.history()
	if n.opts.Load != nil {
		deps.Reload = n.Reload
	}
	return console.New(deps)
}

// AdminAddr is where the admin listener listens, nil when it is off or not open.
func (n *Node) AdminAddr() net.Addr {
	if n.admin == nil {
		return nil
	}
	return n.admin.ln.Addr()
}

// adminTLS makes the TLS set-up of the admin listener. The certificate is read again when its file changes.
func adminTLS(pair *keyPair, cfg *site.AdminTLS) (*tls.Config, error) {
	if _, err := pair.get(nil); err != nil {
		return nil, fmt.Errorf("the admin listener has no certificate: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get, NextProtos: []string{"h2", "http/1.1"}}
	if cfg.ClientCA != "" {
		pool, err := readPool(cfg.ClientCA)
		if err != nil {
			return nil, err
		}
		conf.ClientCAs, conf.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// readPool reads a file of certificate authorities.
func readPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("authorities cannot be read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate was found in %s", path)
	}
	return pool, nil
}

// keyPair is a certificate with its key, read again when the certificate file changes.
type keyPair struct {
	cert, key string

	mu   sync.Mutex
	at   time.Time
	pair *tls.Certificate
}

func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	st, err := os.Stat(k.cert)
	if err == nil && k.pair != nil && st.ModTime().Equal(k.at) {
		return k.pair, nil
	}
	pair, loadErr := tls.LoadX509KeyPair(k.cert, k.key)
	if err = errors.Join(err, loadErr); err != nil {
		if k.pair != nil {
			return k.pair, nil // half written: the old one serves until the new one is whole
		}
		return nil, err
	}
	k.pair, k.at = &pair, st.ModTime()
	return k.pair, nil
}
