"""The resource and the operator, on a real API server: kube-apiserver and etcd on loopback, RBAC on."""
