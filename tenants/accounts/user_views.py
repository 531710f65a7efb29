"""Accounts of the tenant's members: `users/`. An owner invites, changes and disables; nobody deletes."""

from drf_spectacular.utils import extend_schema
from rest_framework import generics, mixins, serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response

from tenants.accounts.links import invite, require_may_be_active, send_invitation, withdraw_invitation
from tenants.accounts.models import User
from tenants.edits import ChangeSerializer, EditConflictSerializer


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = [
            "id", "username", "email", "role", "is_active", "is_invited", "last_login", "date_joined", "version",
        ]  # fmt: skip
        read_only_fields = ["username", "is_invited", "last_login", "date_joined", "version"]


class UserChangeSerializer(ChangeSerializer, UserSerializer):
    class Meta(UserSerializer.Meta):
        read_only_fields = ["username", "is_invited", "last_login", "date_joined"]


class InvitationSerializer(UserSerializer):
    class Meta(UserSerializer.Meta):
        read_only_fields = ["is_active", "is_invited", "last_login", "date_joined", "version"]
        extra_kwargs = {"email": {"required": True, "allow_blank": False}}  # noqa: RUF012


class Users(generics.GenericAPIView):
    serializer_class = UserSerializer
    resource = "accounts.user"

    def get_queryset(self):
        """Without operators who support or have supported: theirs are no accounts to be given rights."""
        return User.objects.filter(operator=None).order_by("username")

    def initial(self, request, *args, **kwargs):
        """A key manages no accounts: what leaked would open doors that its end does not close."""
        super().initial(request, *args, **kwargs)
        if request.method not in ("GET", "HEAD") and "api_key" in request.auth:
            raise PermissionDenied


class UserList(Users, generics.ListAPIView):
    @extend_schema(request=InvitationSerializer, responses={201: UserSerializer})
    def post(self, request):
        """Invites somebody: the account is not in use before they have chosen a password, by a link in a mail."""
        invitation = InvitationSerializer(data=request.data)
        invitation.is_valid(raise_exception=True)
        user = invite(**{"role": User.Role.TESTER} | invitation.validated_data, invited_by=request.user)
        return Response(UserSerializer(user).data, status=201)


class UserDetail(Users, mixins.UpdateModelMixin, generics.RetrieveAPIView):
    def get_serializer_class(self):
        return UserChangeSerializer if self.request.method == "PATCH" else UserSerializer

    @extend_schema(responses={200: UserSerializer, 409: EditConflictSerializer})
    def patch(self, request, *args, **kwargs):
        """409: `stale`, `last_owner`, `invitation_pending`."""
        return self.update(request, *args, **kwargs)

    def perform_update(self, serializer):
        require_may_be_active(serializer.instance, serializer.validated_data.get("is_active", False))
        serializer.save()


class UserInvitation(Users):
    """Of an account that is not in use yet. 409 `not_invited` for one that is."""

    actions = {"POST": "add", "DELETE": "change"}  # noqa: RUF012

    @extend_schema(request=None, responses=UserSerializer)
    def post(self, request, pk):
        """Sends it again; the link in the earlier mail ends."""
        user = self.get_object()
        send_invitation(user, request.user)
        return Response(self.get_serializer(user).data)

    @extend_schema(responses={204: None})
    def delete(self, request, pk):
        """Withdraws it: the link ends. The account stays as it is, and can be invited again."""
        withdraw_invitation(self.get_object())
        return Response(status=204)
