package probe

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/even-keel/evenkeel/site"
)

// tlsKind shakes hands and looks at the certificate. It verifies as its own setting says, whatever the
// pool's does: who asks for a tls probe asks about the certificate.
type tlsKind struct{ cfg site.ProbeTLS }

func (k *tlsKind) ask(ctx context.Context, t Target) finding {
	c := &tls.Config{}
	if t.TLS != nil {
		c = t.TLS.Clone()
	}
	if k.cfg.ServerName != "" {
		c.ServerName = k.cfg.ServerName
	}
	c.InsecureSkipVerify = !k.cfg.Verify
	t.TLS = c
	conn, hang, f := dial(ctx, t, true, "")
	if conn == nil {
		return f
	}
	defer hang()
	state := conn.(*tls.Conn).ConnectionState()
	if len(state.PeerCertificates) == 0 {
		return bad("certificate: none shown")
	}
	// The chain ends when the first of its certificates does; what was shown beyond it does not matter.
	end := state.PeerCertificates[0].NotAfter
	if len(state.VerifiedChains) > 0 {
		for _, cert := range state.VerifiedChains[0] {
			if cert.NotAfter.Before(end) {
				end = cert.NotAfter
			}
		}
	}
	if left := time.Until(end); k.cfg.Expires > 0 && left < k.cfg.Expires {
		return bad("certificate: ends in %s, want more than %s", left.Round(time.Second), k.cfg.Expires)
	}
	return good("shook hands, certificate ends %s UTC", end.UTC().Format(time.DateTime))
}
