package site

import (
	"slices"
	"strings"
)

// otherWords are what other proxies call our words; a key or value that is one of these gets ours offered where it is allowed.
var otherWords = map[string][]string{
	"address": {"listen"}, "addr": {"listen", "address"}, "algorithm": {"method"}, "balance": {"method"},
	"backend": {"pool"}, "backends": {"pools", "endpoints"}, "bind": {"listen"}, "ca_file": {"ca", "client_ca"},
	"cert_file": {"cert"}, "check": {"probe"}, "cluster": {"pool"}, "clusters": {"pools"}, "domain": {"hosts", "host"},
	"domains": {"hosts"}, "entrypoints": {"listeners"}, "frontend": {"listeners"}, "frontends": {"listeners"},
	"grpc": {"http", "h2"}, "h2c": {"h2"}, "health": {"probe"}, "healthcheck": {"probe"}, "host": {"hosts"}, "hosts": {"endpoints"},
	"http1": {"h1"}, "http2": {"h2"}, "https": {"http"}, "includes": {"include"}, "interval": {"every"}, "iphash": {"hash"},
	"goal": {"target"}, "key_file": {"key"}, "lb": {"method"}, "leastconn": {"least_requests"}, "leastconnections": {"least_requests"},
	"leastrequest": {"least_requests"}, "maglev": {"hash"}, "match": {"paths"}, "maxconn": {"connections", "max"}, "nodes": {"endpoints"},
	"p2c": {"least_requests"}, "path": {"paths"}, "peakewma": {"ewma"}, "period": {"every"}, "policy": {"method"}, "prefix": {"paths"},
	"random": {"least_requests"}, "ringhash": {"hash"}, "rr": {"round_robin"}, "rules": {"routes"}, "server": {"endpoints"},
	"servers": {"endpoints", "pools"}, "objective": {"target"}, "service": {"pool"}, "services": {"pools"}, "sni": {"server_name"}, "ssl": {"tls"},
	"slo": {"objectives"}, "slos": {"objectives"}, "strategy": {"method"}, "mail": {"email"}, "target": {"pool"}, "targets": {"endpoints"}, "timeout": {"timeouts", "deadline"}, "type": {"protocol", "method"},
	"unhealthy": {"fall"}, "upstream": {"pool"}, "upstreams": {"pools"}, "url": {"address"}, "vhosts": {"routes"}, "weighted_round_robin": {"weighted"},
}

// Near is the allowed word that was probably meant, or "".
func Near(seen string, allowed []string) string {
	bare := bareWord(seen)
	for _, a := range allowed {
		if a != "" && bareWord(a) == bare {
			return a
		}
	}
	for _, a := range append(otherWords[strings.ToLower(seen)], otherWords[bare]...) {
		if slices.Contains(allowed, a) {
			return a
		}
	}
	if i := slices.IndexFunc(allowed, func(a string) bool { return len(bare) >= 3 && strings.HasPrefix(bareWord(a), bare) }); i >= 0 {
		return allowed[i]
	}
	best, least := "", 1+len(bare)/4 // one slip in a short word, one more for every four letters
	if len(bare) < 3 {
		least = 0
	}
	for _, a := range allowed {
		if d := slips(bare, bareWord(a)); a != "" && d <= least && (best == "" || d < least) {
			best, least = a, d
		}
	}
	return best
}

// didYouMean is Near as the end of a sentence.
func didYouMean(seen string, allowed []string) string {
	if w := Near(seen, allowed); w != "" {
		return "; did you mean " + w + "?"
	}
	return ""
}

// bareWord takes away what people write differently: case, dashes and underscores.
func bareWord(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// slips counts letters changed, left out, put in or swapped with their neighbour between a and b
// (optimal string alignment distance).
func slips(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64 // no word of ours is that long; the table grows with the square
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
