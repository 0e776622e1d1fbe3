package site

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Admin is the listener for people and programs that run the node.
type Admin struct {
	Listen  string        `yaml:"listen" form:"listen" words:"off" default:"127.0.0.1:7600" doc:"address of the admin listener, or off; anything but loopback needs token, tokens, oidc or client certificates"`
	Token   Secret        `yaml:"token" doc:"bearer token that callers must show; it may do everything"`
	Tokens  []*AdminToken `yaml:"tokens" doc:"further tokens, each with a name and a role; see docs/login.md"`
	OIDC    *AdminOIDC    `yaml:"oidc" doc:"people sign in where they sign in elsewhere, by OpenID Connect"`
	Session time.Duration `yaml:"session" default:"12h" min:"1m" max:"720h" doc:"who signed in in a browser has to do so again after this"`
	TLS     *AdminTLS     `yaml:"tls" doc:"serve the admin listener over TLS"`
}

// Roles of who comes to the admin listener.
const (
	RoleRead    = "read"    // sees everything, changes nothing
	RoleOperate = "operate" // changes too
	RoleWrite   = "write"   // writes samples by remote write, and sees nothing
)

// AdminToken is one token with a name, so that the record of actions says who it was, and one can be taken back without the others.
type AdminToken struct {
	Name  string `yaml:"name" required:"true" form:"name" doc:"who has it, as the record of actions shows it"`
	Token Secret `yaml:"token" required:"true" doc:"the token, at least 16 characters"`
	Role  string `yaml:"role" default:"read" enum:"read|operate|write" doc:"read: sees everything; operate: changes too; write: only writes samples by remote write, for agents and load generators"`
}

// AdminOIDC is an issuer of identities. People go there by the authorization code flow with PKCE; programs may show its ID tokens as bearer tokens.
type AdminOIDC struct {
	Issuer   string   `yaml:"issuer" required:"true" form:"url" doc:"address of the issuer; /.well-known/openid-configuration is found below it"`
	ClientID string   `yaml:"client_id" required:"true" doc:"name of this console at the issuer"`
	Secret   Secret   `yaml:"client_secret" doc:"its secret there; empty: a public client, which PKCE alone protects"`
	URL      string   `yaml:"url" required:"true" form:"url" doc:"address of the console as browsers reach it; the issuer must allow this with /login/oidc/callback behind it"`
	Scopes   []string `yaml:"scopes" default:"openid,profile,email" doc:"what the issuer is asked for; openid is always asked for"`
	Claim    string   `yaml:"claim" default:"groups" doc:"claim of the ID token that roles are made of: a text or a list; a dot goes one level down, as in realm_access.roles"`
	Operate  []string `yaml:"operate" doc:"who has one of these values in the claim may change things; * stands for anybody who signs in"`
	Read     []string `yaml:"read" doc:"who has one of these may look; * stands for anybody who signs in"`
	CA       string   `yaml:"ca" form:"file" doc:"file of authorities for the issuer's certificate; empty: the system's"`
}

// AdminTLS protects the admin listener.
type AdminTLS struct {
	Cert     string `yaml:"cert" required:"true" form:"file" doc:"certificate file, PEM"`
	Key      string `yaml:"key" required:"true" form:"file" doc:"private key file, PEM"`
	ClientCA string `yaml:"client_ca" form:"file" doc:"file of authorities; callers must show a certificate signed by one of them"`
}

// tokenLeast is how long a token is at the least: shorter ones can be found by trying.
const tokenLeast = 16

// admin checks who may come to the admin listener.
func (c *checker) admin() {
	a := c.site.Admin
	if a.TLS != nil && !c.suspect("admin.tls") {
		c.pair(a.TLS.Cert, a.TLS.Key, "admin.tls")
		c.authorities(a.TLS.ClientCA, "admin.tls.client_ca")
	}
	names, tokens := map[string]string{}, []Secret{a.Token}
	for i, t := range a.Tokens {
		path := fmt.Sprintf("admin.tokens[%d]", i)
		if c.suspect(path) {
			continue
		}
		c.once(names, t.Name, path)
		switch {
		case len(t.Token) < tokenLeast:
			c.wrong(path+".token", "has %d characters and could be found by trying; take %d or more, such as those of openssl rand -hex 24", len(t.Token), tokenLeast)
		case slices.Contains(tokens, t.Token):
			c.wrong(path+".token", "is that of another one; each needs its own, or nobody knows who it was")
		}
		tokens = append(tokens, t.Token)
	}
	if a.OIDC != nil && !c.suspect("admin.oidc") {
		c.oidc(a.OIDC)
	}
	open := a.Token == "" && len(a.Tokens) == 0 && a.OIDC == nil && (a.TLS == nil || a.TLS.ClientCA == "")
	if a.Listen == "off" || !open || c.suspect("admin") {
		return
	}
	if !loopback(a.Listen) {
		c.wrong("admin.listen", "%s can be reached from other machines; give admin.token, admin.tokens, admin.oidc or admin.tls.client_ca, or listen on 127.0.0.1", quote(a.Listen))
	}
}

func (c *checker) oidc(o *AdminOIDC) {
	for path, url := range map[string]string{"admin.oidc.issuer": o.Issuer, "admin.oidc.url": o.URL} {
		if strings.HasPrefix(url, "http://") && !loopbackURL(url) {
			c.wrong(path, "who signs in without TLS can be impersonated on the way; use https")
		}
	}
	if len(o.Operate) == 0 && len(o.Read) == 0 {
		c.wrong("admin.oidc", "gives nobody a role; name values of the claim %s under operate or read", quote(o.Claim))
	}
	c.authorities(o.CA, "admin.oidc.ca")
}
