#!/bin/sh
# One step of building Kubernetes from Debian's own source package, inside the build's root file system.
# usage: build.sh unpack | pause | NAME      (NAME: a folder of the source's cmd/)
set -eu
here=/build
export GOPATH=$here/go GOCACHE=$here/cache GO111MODULE=off CGO_ENABLED=0 GOFLAGS='' HOME=/root
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
tree=$GOPATH/src/k8s.io/kubernetes
vendored=vendor/github.com/modern-go/reflect2
version=$(sed -n 's/^Version: .*really\([0-9.]*\)-.*/v\1/p' $here/*.dsc)

unpack() {
    mkdir -p "$GOPATH/src/k8s.io" $here/bin
    # its signer's key is not the build's to judge: apt has checked the archive's
    dpkg-source --no-check -x $here/*.dsc "$tree"
    cd "$tree"
    # the copy in the source (1.0.1) reads Go's map iterator wrongly from Go 1.18 on, and everything panics
    rm -rf $vendored
    cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 $vendored
    rm -f $vendored/*_test.go
    # as 1.20.3 has it again: 1.20.2 keeps a pod that was deleted until its sandbox is collected, up to a minute later
    # (kubernetes/kubernetes#97288)
    grep -q "pod's sandboxes should be deleted" pkg/kubelet/kubelet_pods.go
    sed -i "/^\t\/\/ pod's sandboxes should be deleted\$/,/^\t}\$/d" pkg/kubelet/kubelet_pods.go
    # the API's schema is a generated file that the source package leaves out
    go build -o $here/openapi-gen ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
    packages=$(grep -rl --include=*.go '^// +k8s:openapi-gen=' pkg cmd staging/src | grep -v -e /zz_generated -e /testdata/ |
        xargs -n1 dirname | sort -u | sed 's#^staging/src/#k8s.io/kubernetes/vendor/#;/^k8s.io/!s#^#k8s.io/kubernetes/#' |
        grep -v -e code-generator -e sample- | paste -sd,)
    $here/openapi-gen -O zz_generated.openapi -h hack/boilerplate/boilerplate.generatego.txt -i "$packages" \
        -p k8s.io/kubernetes/pkg/generated/openapi -o "$GOPATH/src" -r $here/violations
}

build() {
    cd "$tree"
    told=''
    for package in component-base/version client-go/pkg/version; do
        for at in k8s.io/$package k8s.io/kubernetes/vendor/k8s.io/$package; do
            told="$told -X $at.gitVersion=$version -X $at.gitMajor=1 -X $at.gitMinor=20 -X $at.gitTreeState=clean"
            told="$told -X $at.buildDate=2021-01-13T00:00:00Z"
        done
    done
    # neither cloud providers nor Docker: the lab has none of them, and they are a quarter of it
    go build -tags providerless,dockerless -trimpath -ldflags "-s -w $told" -o $here/bin/ "k8s.io/kubernetes/cmd/$1"
}

# what holds a pod's namespaces: the same source's, linked statically
pause() {
    gcc -Os -Wall -static -s -DVERSION="3.2" -o $here/bin/pause "$tree/build/pause/linux/pause.c"
}

case $1 in
unpack) unpack ;;
pause) pause ;;
*) build "$1" ;;
esac
