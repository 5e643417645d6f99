// A loggregator agent as far as its clients see it, for tests: the server that go-loggregator's own code makes, over TLS
// with certificates on both sides. It prints its address, then each envelope as a line of JSON.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"code.cloudfoundry.org/go-loggregator/v10/rpc/loggregator_v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

type receiver struct {
	loggregator_v2.UnimplementedIngressServer
	out *json.Encoder
}

type line struct {
	Timestamp  int64             `json:"timestamp"`
	SourceID   string            `json:"sourceId"`
	InstanceID string            `json:"instanceId"`
	Tags       map[string]string `json:"tags"`
	Type       string            `json:"type"`
	Payload    string            `json:"payload"`
}

// Agents answer the end of a stream with what they read then, io.EOF, too.
func (r *receiver) BatchSender(stream loggregator_v2.Ingress_BatchSenderServer) error {
	for {
		batch, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, e := range batch.GetBatch() {
			err := r.out.Encode(line{
				Timestamp:  e.GetTimestamp(),
				SourceID:   e.GetSourceId(),
				InstanceID: e.GetInstanceId(),
				Tags:       e.GetTags(),
				Type:       e.GetLog().GetType().String(),
				Payload:    string(e.GetLog().GetPayload()),
			})
			if err != nil {
				return err
			}
		}
	}
}

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: loggregator-agent ADDRESS CA CERTIFICATE KEY")
	}
	ca, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	own, err := tls.LoadX509KeyPair(os.Args[3], os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	// As loggregator-agent-release has it.
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{own},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
		MinVersion:   tls.VersionTLS12,
	})))
	loggregator_v2.RegisterIngressServer(server, &receiver{out: json.NewEncoder(os.Stdout)})
	fmt.Println(listener.Addr())
	// It ends with whoever started it.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(server.Serve(listener))
}
