package console

import (
	"math"
	"time"
)

// Objectives is what the lively node promised: one kept, one that burns, one that is spent, one that pages.
func (f *fakeNode) Objectives() Objectives {
	now, t := f.now(), float64(f.ticks())
	one := func(name, kind, about, good, window string, target, left, burn float64, total uint64) Objective {
		o := Objective{Name: name, Kind: kind, About: about, Good: good, Target: target, Window: window, Begin: now.Add(-30 * 24 * time.Hour), End: now, Total: total,
			Left: left, BurnRate: burn, Indicator: 1 - (1-target)*(1-left), MinBad: 5, Freeze: left <= 0}
		o.GoodCount = uint64(float64(total) * o.Indicator)
		for i, b := range []BurnRate{{Severity: "page", Factor: 14.4, Budget: .02, LongS: 3600, ShortS: 300}, {Severity: "page", Factor: 6, Budget: .05, LongS: 6 * 3600, ShortS: 1800},
			{Severity: "ticket", Factor: 1, Budget: .1, LongS: 72 * 3600, ShortS: 6 * 3600}} {
			b.LongRate, b.ShortRate = burn/float64(i+1), burn*(1.1+.1*math.Sin(t))/float64(i+1)
			b.CanFire, b.OutageS = true, b.Factor*(1-target)*b.LongS
			if b.Due = b.LongRate >= b.Factor; b.Due {
				b.Since = now.Add(-11 * time.Minute)
			}
			o.Alerts = append(o.Alerts, b)
		}
		if burn > 1 && left > 0 {
			o.SpentInS = left * 30 * 24 * 3600 / burn
		}
		return o
	}
	list := []Objective{
		one("checkout-available", "availability", "route checkout", "not failed", "30d", .999, .62, .31, 5_912_818),
		one("checkout-fast", "latency", "route checkout", "answered within 300ms", "30d", .99, .18, 3.2, 5_912_818),
		one("critical-admitted", "shed", "all requests, critical", "not shed", "month", .9999, -.24, .02, 912_221),
		one("shop-available", "availability", "pool shop", "not failed", "7d", .9995, .41, 16.8, 41_222_117),
	}
	list[3].Alerts[0].LongS, list[3].Abort = 840, true
	return Objectives{At: now, Objectives: list}
}

// Alerts is what needs a person there.
func (f *fakeNode) Alerts() Alerts {
	now := f.now()
	at := func(ago time.Duration, a Alert) Alert {
		a.Since, a.Fired, a.Runbook = now.Add(-ago), now.Add(-ago), "https://github.com/even-keel/evenkeel/blob/main/docs/alerts.md#"+a.Name
		return a
	}
	return Alerts{At: now, Alerts: []Alert{
		at(11*time.Minute, Alert{Name: "burn-page", Severity: "page", State: "firing", Labels: map[string]string{"objective": "shop-available", "window": "14m"}, Text: "the budget burns 16.8 times as fast as it may over 14m, 18.1 times over 1m10s (from 14.4); 41.0% of the error budget of 7d is left", Link: "/objectives"}),
		at(41*time.Second, Alert{Name: "pool-capacity", Severity: "page", State: "pending", Labels: map[string]string{"pool": "shop"}, Text: "53% of its capacity is healthy, 3 of 5 endpoints"}),
		at(3*time.Hour, Alert{Name: "certificate-expiry", Severity: "ticket", State: "firing", Labels: map[string]string{"listener": "web", "host": "old.example"}, Text: "it ends in 5d, at 2026-12-03 09:00 UTC", Silences: []string{"s3"}}),
		at(2*time.Hour, Alert{Name: "reload-failed", Severity: "ticket", State: "resolved"}),
	}, Silences: []Silence{{ID: "s3", Matchers: map[string]string{"alert": "certificate-*", "host": "old.example"}, Begin: now.Add(-time.Hour), End: now.Add(47 * time.Hour), By: "ada", Comment: "goes away on Friday"}},
		Receivers: []AlertReceiver{{Name: "oncall", Kind: "pagerduty", Sent: 41}, {Name: "desk", Kind: "email", Sent: 12, Waiting: 2, Trouble: "the mail server does not answer: connection refused"}}}
}
