// Command bench measures what evenkeel costs beside other proxies, and shows what it stands.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/even-keel/evenkeel/bench/clients"
	"github.com/even-keel/evenkeel/bench/contain"
	"github.com/even-keel/evenkeel/bench/cost"
	"github.com/even-keel/evenkeel/bench/events"
	"github.com/even-keel/evenkeel/bench/history"
	"github.com/even-keel/evenkeel/bench/limits"
	"github.com/even-keel/evenkeel/bench/overload"
	"github.com/even-keel/evenkeel/bench/stress"
	"github.com/even-keel/evenkeel/bench/worlds"
)

const usage = `usage: bench cost [flags]              CPU and memory beside HAProxy and nginx
       bench screen [flags]            what screening costs per request
       bench cache [flags]             what a hit in the cache costs, beside asking
       bench stress [flags] NAME...    experiments with a verdict each; all stands for all
       bench monitor [flags]           what it costs that a node remembers its figures; -load 5000 -for 1h: memory under load
       bench events [flags]            a million events: pages, questions, and the bound of the file
       bench limit [flags]             a check of a rate limit beside other limiters
       bench shed [flags]              the shedder in random worlds, in fake time
       bench overload [flags]          more demand than the endpoints can work on, a verdict for each scenario
       bench contain [flags]           a sick endpoint, a hung pool, a lost zone: one failure stays one
       bench clients [flags]           package client beside other ways to call a server that is overloaded

Flags are shown by bench NAME -h.
exit code: 0 held, 1 did not hold, 2 wrong use, 3 could not run
`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) > 0 && args[0] == "worker" {
		return worker(args[1:]) // ends by any signal
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) > 0 {
		switch args[0] {
		case "cost":
			return cost.Main(ctx, args[1:])
		case "screen":
			return cost.Screen(ctx, args[1:])
		case "cache":
			return cost.Cache(ctx, args[1:])
		case "stress":
			return stress.Main(ctx, args[1:])
		case "overload":
			return overload.Main(ctx, args[1:])
		case "monitor":
			return history.Main(ctx, args[1:])
		case "events":
			return events.Main(ctx, args[1:])
		case "contain":
			return contain.Main(ctx, args[1:])
		case "clients":
			return clients.Main(ctx, args[1:])
		case "limit":
			return limits.Main(ctx, args[1:])
		case "shed":
			return worlds.Main(ctx, args[1:])
		}
	}
	fmt.Fprint(os.Stderr, usage)
	return 2
}

// worker is a process of a measurement: the program starts itself for what must not share a process with it.
func worker(args []string) int {
	kind, address, numbers := "", "", [2]int{}
	if len(args) > 1 {
		kind, address = args[0], args[1]
	}
	for i := range min(len(args)-2, len(numbers)) {
		n, err := strconv.Atoi(args[2+i])
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench worker:", err)
			return 2
		}
		numbers[i] = n
	}
	var err error
	switch kind {
	case "service":
		err = cost.Serve(address)
	case "endpoint":
		err = stress.Serve(address)
	case "pace":
		err = history.Pace(address, numbers[0], numbers[1])
	default:
		err = cost.Work(kind, address, numbers[0], numbers[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench worker:", err)
		return 3
	}
	return 0
}
