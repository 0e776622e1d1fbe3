package console

import (
	"maps"
	"net/http"
	"slices"
)

// ZoneLoad is what the endpoints of one zone have, do, and could do.
type ZoneLoad struct {
	Zone      string     `json:"zone"` // empty: of endpoints without one
	Here      bool       `json:"here"` // this node is in it
	Endpoints int        `json:"endpoints"`
	Up        int        `json:"up"`
	RPS       float64    `json:"rps"`
	InFlight  int64      `json:"in_flight"`
	Share     float64    `json:"share"`    // of the attempts of all zones, 0 to 1
	Capacity  float64    `json:"capacity"` // share of its weights that is healthy, 0 to 1
	Pools     []ZonePool `json:"pools"`
}

// ZonePool is the part of a pool in a zone.
type ZonePool struct {
	Pool      string  `json:"pool"`
	Endpoints int     `json:"endpoints"`
	Up        int     `json:"up"`
	RPS       float64 `json:"rps"`
	Share     float64 `json:"share"` // of the pool's attempts
	Due       float64 `json:"due"`   // by weight
}

// hasZones says whether endpoints are in zones.
func hasZones(v View) bool {
	return slices.ContainsFunc(v.Pools, func(p Pool) bool {
		return slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool { return e.Zone != "" })
	})
}

// zones are the zones of a view, by name.
func (v View) zones() []ZoneLoad {
	by := map[string]*ZoneLoad{}
	weight, healthy := map[string]float64{}, map[string]float64{}
	total := 0.0
	for _, p := range v.Pools {
		for _, e := range p.Endpoints {
			z := by[e.Zone]
			if z == nil {
				z = &ZoneLoad{Zone: e.Zone, Here: e.Zone != "" && e.Zone == v.Node.Zone, Pools: []ZonePool{}}
				by[e.Zone] = z
			}
			if n := len(z.Pools); n == 0 || z.Pools[n-1].Pool != p.Name {
				z.Pools = append(z.Pools, ZonePool{Pool: p.Name})
			}
			part := &z.Pools[len(z.Pools)-1]
			z.Endpoints, part.Endpoints = z.Endpoints+1, part.Endpoints+1
			weight[e.Zone] += float64(e.Weight)
			if e.State == StateUp || e.State == StateSlow {
				z.Up, part.Up = z.Up+1, part.Up+1
				healthy[e.Zone] += float64(e.Weight)
			}
			z.RPS, z.InFlight, part.RPS = z.RPS+e.RPS, z.InFlight+e.InFlight, part.RPS+e.RPS
			part.Share, part.Due = part.Share+shareOf(p, e), part.Due+dueOf(p, e)
			total += e.RPS
		}
	}
	list := make([]ZoneLoad, 0, len(by))
	for _, name := range slices.Sorted(maps.Keys(by)) {
		z := *by[name]
		z.Share, z.Capacity = partOf(z.RPS, total), partOf(healthy[name], weight[name])
		list = append(list, z)
	}
	return list
}

func (c *console) zonesTwin(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"zones": c.now().zones()})
}

// showZones makes a view ready for the page about zones.
func (c *console) showZones(on shown, _ *http.Request) any {
	return struct {
		shown
		Zones []ZoneLoad
	}{on, on.zones()}
}
