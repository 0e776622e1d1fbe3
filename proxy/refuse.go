package proxy

import "github.com/even-keel/evenkeel/exchange"

// refuse writes r as the answer of x. It is the one place where refusals become answers.
func refuse(f front, x *exchange.Exchange, r *exchange.Refusal) error { panic("to be written") }
