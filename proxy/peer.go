package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"net/netip"

	"github.com/even-keel/evenkeel/exchange"
)

// peerOf is what the client's certificate says of it, once for the whole connection; nil unless the handshake verified it.
func peerOf(state *tls.ConnectionState) *exchange.Peer {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil
	}
	cert := state.VerifiedChains[0][0]
	return &exchange.Peer{Subject: []byte(cert.Subject.String()), Name: []byte(cert.Subject.CommonName), AltName: []byte(altName(cert))}
}

// Tags of the names in a subject alternative name (RFC 5280 §4.2.1.6).
const (
	sanMail = 1
	sanDNS  = 2
	sanURI  = 6
	sanIP   = 7
)

// altName is the first subject alternative name that has a text of its own. The fields of x509.Certificate tell the
// order within one kind of name only.
func altName(cert *x509.Certificate) string {
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names asn1.RawValue
		if _, err := asn1.Unmarshal(ext.Value, &names); err != nil {
			return ""
		}
		for rest := names.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return ""
			}
			switch name.Tag {
			case sanMail, sanDNS, sanURI:
				return string(name.Bytes)
			case sanIP:
				if a, ok := netip.AddrFromSlice(name.Bytes); ok {
					return a.String()
				}
			}
		}
	}
	return ""
}
