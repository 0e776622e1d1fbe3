package pool

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/even-keel/evenkeel/exchange"
	"github.com/even-keel/evenkeel/site"
)

// whole is a factor of 1 in fixed point.
const whole = 1 << 16

// member is one endpoint of a pool. The first part is for all goroutines, the second is guarded by the pool's lock.
type member struct {
	exchange.Endpoint // Zone is as when the endpoint was first met; a later change stands only in zone below

	skip      atomic.Bool   // not to be picked, though the snapshot may still list it
	alert     atomic.Bool   // on trial: the pool wants to know of the next answer
	hush      atomic.Bool   // ejected, or should be: further failures tell nothing new
	away      atomic.Bool   // no longer a member: what it still has in flight is no part of the pool's mean load
	factor    atomic.Uint32 // part of the weight that counts now, of whole
	inv       atomic.Uint64 // 1 / (weight × factor), a float64
	bond      atomic.Pointer[bond]
	id        uint64       // names the endpoint in cookies and tables
	row       atomic.Int32 // exchanges in a row without an answer
	done      atomic.Int64
	failures  atomic.Int64
	ejections atomic.Int64
	calm      atomic.Int64 // ns on the pool's clock until which a further 429 or 503 changes nothing
	took      atomic.Int64 // ns: mean latency, for people; a lost update between two cores is one sample of many
	rtt       estimate     // ewma and prequal: latency
	fault     estimate     // ewma and prequal: what failures cost
	curve     [curveLen]estimate
	ledger
	busy   estimate     // utilisation as the endpoint tells it
	before atomic.Int64 // on trial: what was in flight already

	room   atomic.Int64 // requests at once that may spill to it; 0: any number
	spills spills

	weight   int // guarded too: snapshots carry what they need of it
	zone     string
	priority int
	vitals
	standing standing
	stop     func() // ends its probes; nil: none
	born     int    // which watch the verdicts must come from
}

// newMember makes the endpoint at address. pool keys the id, so that the same address has different cookies in different pools.
func newMember(pool string, e site.Endpoint) *member {
	m := &member{zone: e.Zone, priority: max(e.Priority, 1), weight: e.Weight}
	m.Pool, m.Address, m.Zone, m.Seat = pool, e.Address, e.Zone, m
	m.id = identity(pool, e.Address)
	m.admin = StateUp
	m.skip.Store(true)
	m.Tick()
	m.setFactor(1, 1)
	return m
}

// retire takes m out of the picks. The pool's lock is held.
func (m *member) retire() {
	if !m.skip.Swap(true) {
		m.Strand()
	}
}

// identity is the opaque name of an endpoint: 64 bits of HMAC-SHA256, the same after restarts and on every node.
func identity(pool, address string) uint64 {
	h := hmac.New(sha256.New, []byte("evenkeel endpoint of pool "+pool))
	h.Write([]byte(address))
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// setFactor makes f, 0.1 to 1, the part of the weight that counts, and the part doubt of that the part of draws that pass: a doubt must not
// make a request on m weigh more too, or nothing would come that could end it.
func (m *member) setFactor(f, doubt float64) {
	m.factor.Store(uint32(math.Round(max(f*doubt, seldom) * whole)))
	m.inv.Store(math.Float64bits(1 / (float64(max(m.weight, 1)) * f)))
}

// seat finds the member behind an endpoint that Pick returned.
func seat(e *exchange.Endpoint) *member {
	m, _ := e.Seat.(*member)
	return m
}

// bond is what binds clients to an endpoint: the ready-made values of Set-Cookie.
type bond struct{ plain, secure []byte }

func newBond(a *site.Affinity, id uint64) *bond {
	plain := fmt.Appendf(nil, "%s=%016x; Path=/; HttpOnly; SameSite=Lax", a.Cookie, id)
	if a.TTL > 0 {
		plain = fmt.Appendf(plain, "; Max-Age=%d", int64(max(a.TTL/time.Second, 1)))
	}
	return &bond{plain: plain, secure: append(plain[:len(plain):len(plain)], "; Secure"...)}
}
