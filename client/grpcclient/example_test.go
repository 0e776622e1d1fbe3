package grpcclient_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/even-keel/evenkeel/client"
	"github.com/even-keel/evenkeel/client/grpcclient"
)

func ExampleNew() {
	l := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.UnaryInterceptor(grpcclient.ReceiveUnary), grpc.StreamInterceptor(grpcclient.ReceiveStream))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }()
	defer server.Stop()

	calls := grpcclient.New(grpcclient.Options{
		Timeout:    3 * time.Second,
		Idempotent: func(method string) bool { return method == "/grpc.health.v1.Health/Check" },
	})
	conn, err := grpc.NewClient("passthrough:///shop",
		grpc.WithUnaryInterceptor(calls.Unary()), grpc.WithStreamInterceptor(calls.Stream()),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	ctx := client.WithClass(context.Background(), client.Low)
	out, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	fmt.Println(out.GetStatus(), err)
	// Output: SERVING <nil>
}
